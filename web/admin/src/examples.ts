// Programs to begin with. Each shows one thing that the service does.
import type { RunRequest } from "./types";

export interface Example {
  name: string;
  program: Omit<RunRequest, "language">;
}

const COLOURS = "\\x1b[1;32m";

const python: Example[] = [
  {
    name: "Plot",
    program: {
      code: `import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 4 * np.pi, 400)
fig, ax = plt.subplots(figsize=(7, 3.6))
for k in range(1, 5):
    ax.plot(x, np.sin(x * k / 2) / k, label=f"k = {k}")
ax.legend(loc="upper right")
ax.set_title("Damped harmonics")
fig.tight_layout()

# What is written to outputs/ comes back with the result.
fig.savefig("outputs/plot.png", dpi=130)
print("peak:", round(float(np.sin(x).max()), 4))
`,
    },
  },
  {
    name: "Table (pandas to CSV)",
    program: {
      code: `import pandas as pd

trips = pd.DataFrame({
    "line": ["north", "north", "east", "east", "harbour"],
    "cars": [12, 18, 7, 9, 31],
    "tonnes": [410.5, 622.0, 190.2, 240.8, 1204.4],
})
summary = trips.groupby("line").agg(cars=("cars", "sum"), tonnes=("tonnes", "mean")).reset_index()
summary.to_csv("outputs/summary.csv", index=False)
print(summary.to_string(index=False))
`,
    },
  },
  {
    name: "Live output on both streams",
    program: {
      code: `import sys, time

for step in range(1, 6):
    print(f"\\x1b[36mstep {step}\\x1b[0m of 5")
    if step == 3:
        print("\\x1b[33mwarning:\\x1b[0m a line on stderr", file=sys.stderr)
    time.sleep(0.5)
print("${COLOURS}done\\x1b[0m")
`,
    },
  },
  {
    name: "Input, arguments and a file",
    program: {
      code: `import os, sys
from greeting import greet

name = input()
print(greet(name, sys.argv[1:]), "in mode", os.environ["MODE"])
`,
      stdin: "Alice\n",
      args: ["--polite"],
      env: { MODE: "demo" },
      files: [
        {
          path: "greeting.py",
          content: 'def greet(name, options):\n    return f"Dear {name}" if "--polite" in options else f"Hi {name}"\n',
        },
      ],
    },
  },
  {
    name: "Inside the sandbox",
    program: {
      code: `import os, socket

print("user ", os.getuid(), "host", socket.gethostname(), "cwd", os.getcwd())
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as problem:
    print("network:", problem)
try:
    open("/etc/passwd", "a")
except OSError as problem:
    print("root file system:", problem)
`,
    },
  },
  {
    name: "Too slow (time limit)",
    program: { code: 'print("counting sheep", flush=True)\nwhile True:\n    pass\n', limits: { timeout_ms: 1500 } },
  },
];

const scripts = (types: boolean): Example[] => [
  {
    name: "Live output on both streams",
    program: {
      code: `const pause = (ms${types ? ": number" : ""}) => new Promise((done) => setTimeout(done, ms));

for (let step = 1; step <= 5; step++) {
  console.log(\`\\x1b[36mstep \${step}\\x1b[0m of 5\`);
  if (step === 3) console.error("\\x1b[33mwarning:\\x1b[0m a line on stderr");
  await pause(400);
}
console.log("${COLOURS}done\\x1b[0m");
`,
    },
  },
  {
    name: "Table (CSV)",
    program: {
      code: `import { writeFileSync } from "node:fs";

const rows = Array.from({ length: 8 }, (_, n) => [n, n ** 2, n ** 3]);
writeFileSync("outputs/powers.csv", "n,square,cube\\n" + rows.map((row) => row.join(",")).join("\\n"));
console.log(\`\${rows.length} rows written\`);
`,
    },
  },
];

const SVG = (w: string): string => `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ${w} 60'>`;

export const EXAMPLES: Record<string, Example[]> = {
  python,
  node: scripts(false),
  typescript: scripts(true),
  deno: scripts(true),
  bun: scripts(true),
  ruby: [
    {
      name: "Word count from input",
      program: {
        code: `words = $stdin.read.downcase.scan(/[a-z]+/).tally
words.sort_by { |word, n| [-n, word] }.first(5).each do |word, n|
  puts "\\e[36m%-8s\\e[0m %s" % [word, "█" * n]
end
`,
        stdin: "the cat and the dog and the bird\n",
      },
    },
  ],
  php: [
    {
      name: "Table (CSV)",
      program: {
        code: `<?php
$out = fopen('outputs/fares.csv', 'w');
fputcsv($out, ['zone', 'fare'], ',', '"', '');
foreach (range(1, 6) as $zone) {
    fputcsv($out, [$zone, number_format(1.8 * sqrt($zone), 2)], ',', '"', '');
}
fclose($out);
echo "6 fares\\n";
fwrite(STDERR, "zone 6 is provisional\\n");
`,
      },
    },
  ],
  go: [
    {
      name: "Concurrent workers",
      program: {
        code: `package main

import (
	"fmt"
	"os"
	"sync"
)

func main() {
	jobs, results := make(chan int), make(chan string)
	var workers sync.WaitGroup
	for id := range 3 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for n := range jobs {
				results <- fmt.Sprintf("worker %d: %d² = %d", id, n, n*n)
			}
		}()
	}
	go func() {
		for n := range 8 {
			jobs <- n
		}
		close(jobs)
		workers.Wait()
		close(results)
	}()
	for line := range results {
		fmt.Println(line)
	}
	fmt.Fprintln(os.Stderr, "all workers are done")
}
`,
      },
    },
  ],
  rust: [
    {
      name: "Primes",
      program: {
        code: `fn main() {
    let limit = 100;
    let mut composite = vec![false; limit + 1];
    let mut primes = Vec::new();
    for n in 2..=limit {
        if composite[n] {
            continue;
        }
        primes.push(n);
        for multiple in (n * n..=limit).step_by(n) {
            composite[multiple] = true;
        }
    }
    println!("{} primes up to {limit}: {primes:?}", primes.len());
}
`,
      },
    },
    {
      name: "A compiler's error",
      program: { code: 'fn main() {\n    let total: u32 = "seven";\n    println!("{total}");\n}\n' },
    },
  ],
  bash: [
    {
      name: "SVG picture from the shell",
      program: {
        code: `{
  echo "${SVG("200")}"
  for i in $(seq 0 19); do
    h=$(( (i * 7919) % 50 + 8 ))
    echo "<rect x='$(( i * 10 + 1 ))' y='$(( 60 - h ))' width='8' height='$h' fill='#e8833a'/>"
  done
  echo "</svg>"
} > outputs/bars.svg
echo "$(grep -c rect outputs/bars.svg) bars"
`,
      },
    },
    {
      name: "Exit code",
      program: { code: 'echo "about to fail" >&2\nexit 3\n' },
    },
  ],
};
