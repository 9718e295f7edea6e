"""RunTools' wire contract: both generations of `POST /v1/execute`, and `GET /v1/runtimes`."""
