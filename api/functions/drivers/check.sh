# Check the handler of a bash function without executing it: started as `check.sh HANDLER`.
exec bash -n "$1"
