"""Every form of decorator in TypeScript does what it does with the TypeScript compiler."""

from __future__ import annotations

import json

import pytest

from tests.engines import decorator_forms as forms

OLDER_KIND = {"tsconfig.json": '{"compilerOptions": {"experimentalDecorators": true}}'}


def printed(run, programs, settings):
    """Run programs (what each shows -> files whose first is loaded), as few sandboxes as they fit in; what each printed."""
    files, loads = dict(settings), []
    for number, (name, texts) in enumerate(programs.items()):
        for part, text in enumerate(texts):
            files[f"p{number}_{part}.ts"] = text.replace("SELF", f"./p{number}_0.ts")
        loads.append(
            f"say({json.dumps(name)}); try {{ await import('./p{number}_{len(texts) - 1}.ts'); }} catch (e) {{ console.log(String(e)); }}"
        )
    code = "const say = (name: string) => console.log('## ' + name);\n" + "\n".join(loads)
    result = run("typescript", code, files=files)
    assert (result["exit_code"], result["stderr"]) == (0, ""), result["stderr"]
    parts = result["stdout"].split("## ")[1:]
    return {name: text.rstrip("\n") for name, _, text in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("kind", ["standard", "older"])
@pytest.mark.parametrize("ending", ["", "\nexport {};"], ids=["script", "module"])
def test_each_form(run, kind, ending):
    table = forms.STANDARD if kind == "standard" else forms.LEGACY
    chosen = {name: row for name, row in table.items() if not ending or name not in forms.ONLY_SCRIPTS}
    programs = {name: [program + ending] for name, (program, _) in chosen.items()}
    found = printed(run, programs, {} if kind == "standard" else OLDER_KIND)
    assert found == {name: output for name, (_, output) in chosen.items()}


@pytest.mark.parametrize("kind", ["standard", "older"])
def test_each_way_to_export(run, kind):
    table = forms.EXPORTED | (forms.EXPORTED_BEFORE if kind == "standard" else {})
    programs = {
        name: [program, f"import * as all from 'SELF';\nconst m: any = all;\nconsole.log({shown});"]
        for name, (program, shown, _) in table.items()
    }
    found = printed(run, programs, {} if kind == "standard" else OLDER_KIND)
    assert found == {name: output for name, (_, _, output) in table.items()}


def test_metadata_of_the_older_kind(run):
    program = (
        "(Reflect as any).metadata = (k: string, v: any) => (t: any, name: string) => console.log(k, name, v.name);\n"
        "function key(t: any, k: string) {}\n"
        "class Job { @key when!: Date }\nnew Job();"
    )
    settings = '{"compilerOptions": {"experimentalDecorators": true, "emitDecoratorMetadata": true}}'
    result = run("typescript", program, files={"tsconfig.json": settings})
    assert (result["exit_code"], result["stdout"]) == (0, "design:type when Date\n"), result["stderr"]


@pytest.mark.parametrize(
    ("program", "stderr"),
    [
        (
            "function mark(c: any, x: any) {}\n@mark class Job {\n  x: number = ;\n}",
            "/work/main.ts:3\n  x: number = ;\n              ^",
        ),
        (
            "function mark(c: any, x: any) {}\n@mark class Job {\n  run() { throw new Error('no'); }\n}\nnew Job().run();",
            "at Job.run (/work/main.ts:3:17)",
        ),
        ("const a = 'no @decorator';\nthrow new Error(a);", "/work/main.ts:2"),
    ],
    ids=["syntax", "stack", "text"],
)
def test_errors_name_the_line_of_the_program(run, program, stderr):
    result = run("typescript", program)
    assert (result["exit_code"], stderr in result["stderr"]) == (1, True), result["stderr"]
