# Print the state of a shell that exits, for the one that replaces it: sections that each end with a NUL byte.
# Sourced by the EXIT trap. `builtin`, since a cell may have defined functions of these names.
builtin set +o
builtin printf '\0'
builtin set +euxvn
builtin trap - EXIT DEBUG ERR RETURN
builtin declare -p
builtin printf '\0'
builtin declare -f
builtin declare -F
builtin printf '\0'
builtin shopt -p
builtin printf '\0'
builtin alias -p
builtin printf '\0'
builtin trap -p
builtin printf 'umask '
builtin umask
builtin printf 'builtin cd -- %q\n' "$PWD"
builtin printf 'builtin set --'
builtin printf ' %q' "$@"
builtin printf '\n\0'
