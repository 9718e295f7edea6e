"""Cells of Ruby."""

from __future__ import annotations

import re

from tests.kernels.rows import ANY, Cell, text

ROWS: dict[str, tuple[Cell, ...]] = {
    "variables": (
        Cell("x = 42\ndef f(a) = a * 2\nclass A; def b = 1; end\nnil"),
        Cell("puts x * 2; f(x)", "84\n", results=(text("84"),)),
        Cell("A.new.b", results=(text("1"),)),
        Cell("nil"),
    ),
    "values": (
        Cell(
            "{ a: 1, 'b' => [2.5, nil] }",
            results=({"text/plain": '{:a=>1, "b"=>[2.5, nil]}', "application/json": {"a": 1, "b": [2.5, None]}},),
        ),
        Cell("[Float::NAN]", results=({"text/plain": "[NaN]", "application/json": [None]},)),
        Cell("false", results=(text("false"),)),
        Cell("class H; def to_html = '<i>'; end; H.new", results=({"text/html": "<i>"},)),
    ),
    "exceptions": (
        Cell(
            "def g\n  raise ArgumentError, 'bad'\nend\ng",
            exception=(
                "ArgumentError",
                "bad",
                "cell-1.rb:2:in `g': bad (ArgumentError)\n\tfrom cell-1.rb:4:in `<main>'",
            ),
            exit_code=1,
        ),
        Cell("nope", exception=("NameError", re.compile("undefined local variable.*"), ANY), exit_code=1),
        Cell("1 +", exception=("SyntaxError", re.compile(r"cell-3\.rb:1: [\s\S]*"), ANY), exit_code=1),
        Cell("def r = r()\nr", exception=("SystemStackError", ANY, ANY), exit_code=1),
        Cell("throw :q", exception=("UncaughtThrowError", ANY, ANY), exit_code=1),
        Cell("raise Class.new(StandardError)", exception=("Exception", ANY, ANY), exit_code=1),
    ),
    "exit": (
        Cell("x = 1; exit 7", exit_code=7),
        Cell("x", results=(text("1"),)),
        Cell("abort 'no'", stderr="no\n", exit_code=1),
        Cell("return 5"),
        Cell("x", results=(text("1"),)),
    ),
    "stdin": (
        Cell("p gets, gets", '"line\\n"\nnil\n', stdin=b"line\n", results=(text('["line\\n", nil]'),)),
        Cell("[gets, $stdin.read]", stdin=b"a\nb", results=(text('["a\\n", "b"]'),)),
        Cell("system('cat')", "kid", stdin=b"kid", results=(text("true"),)),
        Cell("gets"),
    ),
    "environment": (Cell("ENV['V']", env={"V": "1"}, results=(text('"1"'),)), Cell("ENV['V']")),
    "interrupts": (
        Cell("x = 1; loop {}", exception=("Interrupt", "", ANY), exit_code=1, interrupt_s=0.3),
        Cell("sleep", exception=("Interrupt", "", ANY), exit_code=1, interrupt_s=0.3),
        Cell(
            "begin; sleep; ensure; puts 'e'; end",
            "e\n",
            exception=("Interrupt", "", ANY),
            exit_code=1,
            interrupt_s=0.3,
        ),
        Cell("x", results=(text("1"),)),
    ),
    "threads": (Cell("Thread.new { sleep 0.05; puts 'late' }; nil"), Cell("sleep 0.2; nil", "late\n")),
    "require": (
        Cell("require 'set'; Set[1].size", results=(text("1"),)),
        Cell("File.write('zz.rb', 'ZZ = 1'); require_relative 'zz'; ZZ", results=(text("1"),)),
        Cell("__FILE__ == $0", results=(text("true"),)),
    ),
    "display": (
        Cell(
            "Runyard.html('<b>'); puts 'a'; Runyard.png('ab'); puts 'b'",
            "a\nb\n",
            results=({"text/html": "<b>"}, {"image/png": "YWI="}),
        ),
        Cell("1.display", "1"),
        Cell("105.times { |i| Runyard.display(i) }; nil", results=({},) * 100, dropped=5),
        Cell("12.times { Runyard.text('x' * (1 << 20)) }; nil", results=({},) * 10, dropped=2),
    ),
    "formats": (
        Cell(
            "%i[markdown svg latex javascript text].each { |f| Runyard.public_send(f, f.to_s) }; nil",
            results=(
                {"text/markdown": "markdown"},
                {"image/svg+xml": "svg"},
                {"text/latex": "latex"},
                {"application/javascript": "javascript"},
                {"text/plain": "text"},
            ),
        ),
        Cell(
            'Runyard.png("\\x01\\x02"); Runyard.jpeg("\\x01\\x02"); Runyard.pdf("%PDF"); Runyard.json({ a: [1, Float::INFINITY] }); nil',
            results=(
                {"image/png": "AQI="},
                {"image/jpeg": "AQI="},
                {"application/pdf": "JVBERg=="},
                {"application/json": {"a": [1, None]}},
            ),
        ),
        Cell(
            "class T; def to_html = '<t>'; def to_markdown = '*t*'; def to_svg = '<svg/>'; def to_latex = '$t$'; "
            "def to_png = 'ab'; def to_jpeg = raise('no'); def inspect = 't'; end; T.new",
            results=(
                {
                    "text/plain": "t",
                    "text/html": "<t>",
                    "text/markdown": "*t*",
                    "image/svg+xml": "<svg/>",
                    "text/latex": "$t$",
                    "image/png": "YWI=",
                    "image/jpeg": None,
                },
            ),
        ),
    ),
    "hostile values": (
        Cell("c = []; c << c; c", results=(text("[[...]]"),)),
        Cell(
            "o = Object.new; def o.inspect = raise('no'); o", results=(text("[cannot be inspected: RuntimeError]"),)
        ),
        Cell("BasicObject.new", results=(text(ANY),)),
        Cell("'é' * 1_000_000", results=(text(re.compile(r"[\s\S]{1,262144}… \(truncated\)")),)),
        Cell('"\\xff"', results=(text('"\\xFF"'),)),
    ),
    "fork": (
        Cell(
            "pid = fork; puts pid.nil? ? 'child' : 'parent'; Process.wait(pid) if pid; nil",
            re.compile("parent\nchild\n|child\nparent\n"),
        ),
        Cell("1", results=(text("1"),)),
    ),
    "output": (
        Cell("warn 'w'; system('echo a'); print 'b'; nil", "a\nb", "w\n"),
        Cell("require 'stringio'; $stdout = StringIO.new; puts 'x'; $stdout = STDOUT; nil"),
        Cell("IO.for_fd(3)", exception=("Errno::EBADF", ANY, ANY), exit_code=1),
        Cell("STDIN.close; nil"),
        Cell("$stdin.read", stdin=b"in", results=(text('"in"'),)),
        Cell("STDOUT.close; nil"),
        Cell("1", results=(text("1"),)),
    ),
    "characters": (Cell("1\r\n2\r\n", results=(text("2"),)), Cell("é = 'ü'; é", results=(text('"ü"'),))),
}
