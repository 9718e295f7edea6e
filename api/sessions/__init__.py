"""Sessions: sandboxes that stay alive, with runs, processes and files in them."""
