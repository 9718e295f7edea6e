"""The rows for the messages of each language's interpreter, compiler and standard library.

They are tried before the common ones, in this order; the first that is found decides about its code.
"""

from __future__ import annotations

from sandbox.hints.rules import IN_QUOTES, UP_TO_COLON, OutputRule, rule

_LINE = r"(?P<line>\d{1,9})"
_WHAT = r"(?P<what>[^\n]{1,300})"
#: Up to so many lines between the place of an error and its message.
_SOURCE = r"(?:[^\n]*\n){0,5}?"
#: In Python a path is shown as `repr` shows it.
_REPR = r"(?P<mark>['\"])(?P<path>[^\n]{1,400}?)(?P=mark)(?:$| ->)"

_PYTHON = (
    rule("module_not_found", "No module named ", r"\bNo module named '?(?P<name>[^'\s;]{1,200})"),
    rule(
        "syntax_error",
        "Error: ",
        rf"^ *File \"(?P<path>[^\"\n]{{1,400}})\", line {_LINE}\n(?:(?! *File )[^\n]*\n){{0,5}}?"
        rf"(?:SyntaxError|IndentationError|TabError): {_WHAT}",
    ),
    rule("file_not_found", "FileNotFoundError: ", rf"^FileNotFoundError: [^\n:]{{1,80}}: {_REPR}"),
    rule("read_only", "Read-only file system", rf"Read-only file system: {_REPR}"),
    rule("out_of_memory", "MemoryError", r"^(?:[\w.]{1,80}\.)?(?:_Array)?MemoryError\b"),
    rule("pids_exhausted", "can't start new thread"),
    rule("network_disabled", "Tunnel connection failed: 403", r"ConnectionPool\(host='(?P<host>[^'\s]{1,253})'"),
    rule("network_disabled", "Failed to resolve '", r"Failed to resolve '(?P<host>[^'\s]{1,253})'"),
    rule("input_exhausted", "EOFError: EOF when reading a line"),
)
_JAVASCRIPT = (
    rule(
        "module_not_found", "Cannot find ", r"\bCannot find (?:module|package) ['\"](?P<name>[^'\"\n]{1,300})['\"]"
    ),
    rule("module_not_found", "No such built-in module", r"No such built-in module: (?P<name>[^\s]{1,200})"),
    rule(
        "syntax_error",
        "SyntaxError: ",
        rf"^(?:file://)?(?P<path>/[^\n:]{{1,400}}):{_LINE}\n{_SOURCE}SyntaxError: {_WHAT}",
    ),
    rule("file_not_found", "ENOENT: ", rf"ENOENT: no such file or directory, \w{{1,30}} {IN_QUOTES}"),
    rule("file_not_found", " ENOENT", r"\bspawn (?P<path>[^\n]{1,300}?) ENOENT"),
    rule("read_only", "EROFS: ", rf"EROFS: read-only file system, \w{{1,30}} {IN_QUOTES}"),
    rule("out_of_memory", "JavaScript heap out of memory"),
    rule("out_of_memory", "ERR_WORKER_OUT_OF_MEMORY"),
    rule("pids_exhausted", " EAGAIN", r"\bspawn [^\n]{1,300}? EAGAIN"),
    rule("pids_exhausted", "ERR_WORKER_INIT_FAILED"),
    rule("network_disabled", "getaddrinfo ", r"getaddrinfo E\w{1,20} (?P<host>[^\s'\"]{1,253})"),
    rule("network_disabled", "UNREACH", r"connect E(?:NET|HOST)UNREACH (?P<host>[^\s'\"]{1,100})"),
    rule("input_exhausted", "EOF: end of file, read"),
    rule("syscall_refused", "EPERM: operation not permitted"),
    rule("syscall_refused", "ENOSYS: "),
)
_TYPESCRIPT = (
    rule("syntax_error", ",-[", rf",-\[(?P<path>[^\n:\]]{{1,400}}):{_LINE}:\d{{1,9}}\]"),
    *_JAVASCRIPT,
)
_DENO = (
    rule("module_not_found", "Relative import path", r"Relative import path \"(?P<name>[^\"\n]{1,300})\" not"),
    rule("module_not_found", 'Import "', r"Import \"(?P<name>[^\"\n]{1,300})\" not a dependency"),
    rule("module_not_found", "Module not found ", r"Module not found \"(?:file://)?(?P<name>[^\"\n]{1,300})\""),
    rule(
        "syntax_error",
        "could not be parsed: ",
        rf"could not be parsed: (?P<what>[^\n]{{1,300}}?) at (?:file://)?(?P<path>/[^\n:]{{1,400}}):{_LINE}:",
    ),
    rule(
        "syntax_error",
        "error: SyntaxError: ",
        rf"^error: SyntaxError: {_WHAT}\n{_SOURCE} +at (?:file://)?(?P<path>/[^\n:]{{1,400}}):{_LINE}:",
    ),
    rule("file_not_found", "(os error 2)", rf"\(os error 2\)(?:: \w{{1,30}} {IN_QUOTES})?"),
    rule("network_disabled", "JSR package manifest"),
    rule("network_disabled", "error sending request", r"url \(\w{2,5}://(?P<host>[^\s/:)]{1,253})"),
    *_JAVASCRIPT,
)
_BUN = (
    rule(
        "syntax_error",
        "error: ",
        rf"^error: (?P<what>(?:Expected|Unexpected|Unterminated|Syntax Error|Invalid)[^\n]{{0,300}})\n"
        rf" +at (?P<path>/[^\n:]{{1,400}}):{_LINE}:",
    ),
    rule("network_disabled", "Is the computer able to access the url?"),
    rule("network_disabled", "FailedToOpenSocket"),
    *_JAVASCRIPT,
)
_RUBY = (
    rule(
        "module_not_found",
        "cannot load such file -- ",
        r"cannot load such file -- (?P<name>[^\n(]{1,300}?)(?: \(|$)",
    ),
    rule(
        "syntax_error", "syntax error", rf"^(?:[^\n:]{{1,300}}: )?{UP_TO_COLON}:{_LINE}: (?:\S{{1,20}}: )?{_WHAT}"
    ),
    rule(
        "file_not_found",
        "(Errno::ENOENT)",
        r"No such file or directory(?: @ \w{1,40})? - (?P<path>[^\n(]{1,400}?) \(",
    ),
    rule("read_only", "(Errno::EROFS)", r"Read-only file system(?: @ \w{1,40})? - (?P<path>[^\n(]{1,400}?) \("),
    rule("out_of_memory", "(NoMemoryError)"),
    rule("pids_exhausted", "can't create Thread"),
    rule("pids_exhausted", "(Errno::EAGAIN)", r"Resource temporarily unavailable - fork\(2\)"),
    rule("input_exhausted", "end of file reached (EOFError)"),
    rule("network_disabled", "Failed to open TCP connection to ", r"connection to (?P<host>[^\s:]{1,253}):\d"),
)
_PHP = (
    rule(
        "syntax_error",
        "Parse error: ",
        rf"Parse error: +(?P<what>[^\n]{{1,300}}?) in {UP_TO_COLON} on line {_LINE}",
    ),
    rule("file_not_found", "No such file", r"\((?P<path>[^\n)]{1,400})\): Failed to open stream: No such file"),
    rule("read_only", "Read-only", r"\((?P<path>[^\n)]{1,400})\): Failed to open stream: Read-only file"),
    rule("out_of_memory", "Allowed memory size of "),
    rule("out_of_memory", "Out of memory (allocated"),
    rule("pids_exhausted", "Fork failed - Resource temporarily unavailable"),
    rule("network_disabled", "getaddrinfo ", r"getaddrinfo for (?P<host>\S{1,253}) failed"),
)
_GO = (
    rule("module_not_found", " is not in std", r"package (?P<name>\S{1,200}) is not in std"),
    rule("module_not_found", "no required module provides", r"provides package (?P<name>[^\s;:]{1,200})"),
    rule("syntax_error", ": syntax error: ", rf"^{UP_TO_COLON}:{_LINE}:\d{{1,9}}: syntax error: {_WHAT}"),
    rule(
        "file_not_found",
        "no such file",
        r"\b(?:open|stat|lstat) (?P<path>[^\n]{1,400}?): no such file or directory",
    ),
    rule("file_not_found", "executable file not found", r"exec: \"(?P<path>[^\"\n]{1,300})\": executable file not"),
    rule("read_only", "read-only", r"\b\w{1,20} (?P<path>[^\s:]{1,400}): read-only file system"),
    rule("out_of_memory", "out of memory", r"^fatal error: (?:runtime: )?out of memory"),
    rule("pids_exhausted", "failed to create new OS thread"),
    rule("pids_exhausted", "resource temporarily", r"fork/exec [^\n]{1,300}: resource temporarily unavailable"),
    rule("network_disabled", "lookup ", r"\blookup (?P<host>[^\s:]{1,253})(?: on [^\s]{1,100})?: "),
    rule("input_exhausted", "EOF", r"^(?:panic: |\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )(?:unexpected )?EOF$"),
)
_RUST = (
    rule("module_not_found", "E0432", r"E0432\]: unresolved import `(?P<name>[^`\n]{1,200})`"),
    rule("module_not_found", "E0433", r"E0433\]: [^\n]{1,100}(?:crate|module) `(?P<name>[^`\n]{1,200})`"),
    rule("module_not_found", "E0463", r"E0463\]: can't find crate for `(?P<name>[^`\n]{1,200})`"),
    rule(
        "syntax_error",
        "error: ",
        r"^error: (?P<what>(?:expected|unexpected|unclosed|unterminated|mismatched|unknown start|this file contains"
        rf"|missing|invalid)[^\n]{{0,300}})\n +--> {UP_TO_COLON}:{_LINE}:",
    ),
    rule("file_not_found", "kind: NotFound"),
    rule("out_of_memory", "memory allocation of "),
    rule("pids_exhausted", "failed to spawn thread"),
    rule("pids_exhausted", "code: 11, kind: WouldBlock"),
    rule("input_exhausted", "kind: UnexpectedEof"),
)
_BASH = (
    rule("module_not_found", ": command not found", r": (?P<name>[^\n:]{1,200}): command not found"),
    rule(
        "syntax_error",
        "line ",
        rf"^{UP_TO_COLON}: line {_LINE}: (?P<what>(?:syntax error|unexpected EOF)[^\n]{{0,300}})",
    ),
)

#: By the id of a language.
LANGUAGE_RULES: dict[str, tuple[OutputRule, ...]] = {
    "python": _PYTHON,
    "node": _JAVASCRIPT,
    "typescript": _TYPESCRIPT,
    "deno": _DENO,
    "bun": _BUN,
    "ruby": _RUBY,
    "php": _PHP,
    "go": _GO,
    "rust": _RUST,
    "bash": _BASH,
}
