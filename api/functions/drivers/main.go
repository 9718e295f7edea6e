// Call the handler of a function: the input comes from a file, the output goes to one; stdout is the handler's own.
// Started as `PROGRAM build` it copies itself to where the build's program is fetched from.
package main

import runyardos "os"

func main() {
	if len(runyardos.Args) == 2 && runyardos.Args[1] == "build" {
		program, err := runyardos.ReadFile("/proc/self/exe")
		if err == nil {
			err = runyardos.WriteFile("/work/outputs/program", program, 0o644)
		}
		runyardend(err)
	}
	input, err := runyardos.ReadFile("/work/.runyard/input")
	if err != nil {
		runyardend(err)
	}
	output, err := Run(string(input))
	if err == nil {
		err = runyardos.WriteFile("/work/outputs/\x01output", []byte(output), 0o644)
	}
	runyardend(err)
}

func runyardend(err error) {
	if err != nil {
		runyardos.Stderr.WriteString(err.Error() + "\n") // fmt would make every program a third larger
		runyardos.Exit(1)
	}
	runyardos.Exit(0)
}
