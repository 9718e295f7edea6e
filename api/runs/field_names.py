"""The fields of a run's request, with the names that clients of other services give them.

Those services are Piston, Judge0, E2B and the like: a client written for one of them gets the name of the field of
this API that it means.
"""

from __future__ import annotations

from typing import Final

#: Plain names (lower case, no separators) by the field that they mean, in the body itself.
_RUN = {
    "language": "lang languageid runtime kernel interpreter template compiler",
    "code": "sourcecode source src script program snippet body sourcefile",
    "entrypoint": "entry entryfile main mainfile filename startfile",
    "files": "file inputs inputfiles attachments additionalfiles sources",
    "args": "argv arguments commandlinearguments cmdargs cliargs params parameters",
    "stdin": "input standardinput stdininput inputdata stdinput stdintext userinput stdindata",
    "env": "envs envvars environment environmentvariables variables vars",
    "limits": "limit resources resourcelimits constraints quota quotas",
    "stream": "streaming sse live watch",
    "background": "async detach detached asynchronous nowait queue",
    "isolation": "sandbox engine container",
    "network": "net egress internet enablenetwork enableinternet allowinternetaccess networkaccess allowedhosts",
    "packages": "dependencies deps requirements modules libraries pip npm crates install installpackages",
    "metadata": "meta tags labels tag label annotations user userid",
    "limits.timeout_ms": (
        "timeout timeouts timeoutms timeoutsec timeoutsecs timeoutseconds timeoutinseconds runtimeout runtimelimit "
        "timelimit timelimitms walltime walltimelimit wallclock walltimems maxtime maxruntime executiontimeout "
        "exectimeout executiontime ttl deadline maxexecutiontime"
    ),
    "limits.cpu_ms": "cputime cputimelimit runcputime cputimems cpulimit maxcputime cputimeout",
    "limits.memory_mb": (
        "memory memorylimit mem memlimit ram maxmemory maxmem memorymb memorymib memorybytes runmemorylimit"
    ),
    "limits.cpus": "cpu vcpu vcpus cores cpucount cpucores",
    "limits.pids": "maxprocesses maxprocessesandorthreads processes processlimit threads nproc maxthreads",
    "limits.max_output_bytes": "maxoutput outputlimit maxoutputsize outputmaxsize maxstdout",
    "limits.max_artifact_bytes": "maxfilesize filesizelimit maxartifactsize",
    "limits.max_artifact_files": "maxfiles maxartifacts filelimit",
}
_FILE = {
    "path": "name filename filepath file dest destination target",
    "content": "contents data body text base64 contentbase64 source code value",
    "id": "fileid uploadid ref",
    "encoding": "enc charset format contentencoding",
}


def _by_word(table: dict[str, str]) -> dict[str, str]:
    return {word: path for path, words in table.items() for word in words.split()}


#: By level of the body, as `FieldNames` takes them.
SYNONYMS: Final = {"": _by_word(_RUN), "files": _by_word(_FILE)}
