// Gobuild compiles the Go program of a run: gobuild ENTRY PROGRAM.
//
// What needs only the standard library, and that is nearly every program, is given straight to the compiler and
// the linker, with the list of the library's archives that was written when the image was built: half the time
// of `go build`, which first asks itself what it knows already. All else is left to `go build`: modules,
// embedded files, assembly, and every program that it has an error to tell about.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	goroot   = "/usr/lib/go-1.24"
	archives = "/usr/local/lib/go/importcfg"
	// No symbol table and no DWARF: they are half of what the linker writes, and tracebacks need neither.
	linkerFlags = "-s -w"
	// The time of the cache's last cleaning, which `go build` reads: a link in the cache leads here.
	trimmed = "/opt/build/trim.txt"
	// The modules that a run has named, if it has named any (docs/packages.md).
	modules = "/opt/packages/go"
	overlay = "/opt/build/overlay.json"
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: gobuild ENTRY PROGRAM")
	}
	entry, program := os.Args[1], os.Args[2]
	if err := os.Chdir(filepath.Dir(entry)); err != nil {
		fail(err.Error())
	}
	here, plain := look(filepath.Base(entry))
	if !plain {
		goBuild(program, here...)
	}
	object := program + ".a"
	compile := []string{"-p", "main", "-complete", "-pack", "-c=2", "-importcfg", archives, "-o", object}
	run("compile", append(compile, here...))
	run("link", append(strings.Fields(linkerFlags), "-buildmode=exe", "-importcfg", archives, "-o", program, object))
	os.Remove(object)
}

// look says what there is to build in this directory, and whether the compiler can have those files as they are.
// Of a directory that cannot be read as one package that is the entry file alone: `go build` says what is wrong.
func look(entry string) ([]string, bool) {
	found, err := build.ImportDir(".", 0)
	if slices.Contains(found.IgnoredGoFiles, entry) {
		fail(entry + ": is excluded by its build constraints, or by its name, or needs cgo, which there is not")
	}
	if err == nil && found.Name != "main" {
		fail(entry + ": package " + found.Name + " is not a main package")
	}
	if inModule() {
		return []string{"."}, false
	}
	if err != nil {
		return []string{"./" + entry}, false
	}
	files := make([]string, 0, len(found.GoFiles))
	for _, name := range found.GoFiles {
		files = append(files, "./"+name)
	}
	others := len(found.SFiles) + len(found.SysoFiles) + len(found.EmbedPatterns)
	return files, others == 0 && allKnown(found.Imports)
}

// inModule tells whether a go.mod lies here or above.
func inModule() bool {
	here, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(here, "go.mod")); missing == nil {
			return true
		}
		if here == "/" {
			break
		}
		here = filepath.Dir(here)
	}
	return false
}

// allKnown tells whether the standard library has every one of these packages.
func allKnown(imports []string) bool {
	missing := map[string]bool{}
	for _, path := range imports {
		if path != "unsafe" {
			missing[path] = true
		}
	}
	list, err := os.Open(archives)
	if err != nil {
		return false
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	for len(missing) > 0 && lines.Scan() {
		name, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "packagefile "), "=")
		if !strings.Contains(name, "internal/") && !strings.HasPrefix(name, "vendor/") {
			delete(missing, name)
		}
	}
	return len(missing) == 0
}

// run runs a tool of Go's to its end; if it fails, so does gobuild. As with `go build`, all they say goes to stderr.
func run(tool string, args []string) {
	command := exec.Command(filepath.Join(goroot, "pkg/tool/linux_amd64", tool), args...)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	// Where a traceback says that the library's own files are.
	command.Env = append(os.Environ(), "GOROOT="+goroot)
	if err := command.Run(); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) || !ended.Exited() {
			fmt.Fprintf(os.Stderr, "%s: %v\n", tool, err)
		}
		os.Exit(1)
	}
}

// goBuild becomes `go build`. Once a day that removes old files from its cache, and fails where this cannot be
// written, as in every sandbox: so the cache counts as cleaned just now.
func goBuild(program string, what ...string) {
	if err := os.WriteFile(trimmed, []byte(strconv.FormatInt(time.Now().Unix(), 10)), 0o644); err != nil {
		fail(err.Error())
	}
	argv := []string{"go", "build", "-ldflags=" + linkerFlags, "-o", program}
	environment := os.Environ()
	if _, missing := os.Stat(modules); missing == nil {
		// Without the index of modules, which would have to be written to the cache.
		environment = append(environment, "GOMODCACHE="+filepath.Join(modules, "mod"), "GODEBUG=goindex=0")
		if inModule() {
			// Its go.sum need not have the modules that the run has named.
			environment = append(environment, "GOFLAGS=-buildvcs=false -mod=mod")
		} else {
			argv = append(argv, "-overlay="+withModules())
		}
	}
	fail(syscall.Exec(filepath.Join(goroot, "bin/go"), append(argv, what...), environment).Error())
}

// withModules writes the description of a go.mod and a go.sum that lie in this directory for `go build` alone: those
// of the modules that the run has named.
func withModules() string {
	here, err := os.Getwd()
	if err != nil {
		fail(err.Error())
	}
	replaced := map[string]string{}
	for _, name := range []string{"go.mod", "go.sum"} {
		if _, missing := os.Stat(filepath.Join(modules, name)); missing == nil {
			replaced[filepath.Join(here, name)] = filepath.Join(modules, name)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replaced})
	if err == nil {
		err = os.WriteFile(overlay, text, 0o644)
	}
	if err != nil {
		fail(err.Error())
	}
	return overlay
}

// fail says why there is no program, and ends.
func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
