"""tinirun's wire contract: `/api/code/run`, named functions beneath `/api/function`, and its own specification."""
