"""agent-coderunner's wire contract: executions, sessions with files, the history, and keys without sign-up."""
