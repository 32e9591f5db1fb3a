package main

import (
	"fmt"
	"regexp"

	"github.com/metalcast/metalcast"
)

// versions matches a release or a candidate, as spelled by semantic versioning (0.1.0-rc.1) or by
// PEP 440 (0.1.0rc1).
var versions = regexp.MustCompile(`^((?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*))(?:(?:-rc\.|rc)([1-9][0-9]*))?$`)

// pythonVersion returns a version as PEP 440 spells it.
func pythonVersion(version string) (string, error) {
	m := versions.FindStringSubmatch(version)
	switch {
	case m == nil:
		return "", fmt.Errorf("version %q: 1.2.3 or a candidate for it, 1.2.3-rc.1, was expected", version)
	case m[2] == "":
		return m[1], nil
	}
	return m[1] + "rc" + m[2], nil
}

// checkVersion refuses a version that is not the program's, and prints it as PEP 440 spells it,
// which is the form in the file names of wheels.
func checkVersion(asked string) error {
	want, err := pythonVersion(metalcast.Version)
	if err != nil {
		return err
	}
	got, err := pythonVersion(asked)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("version %q: the constant Version in metalcast.go, which outputs record, is %s; change it first", asked, metalcast.Version)
	}
	fmt.Println(metalcast.Version)
	return nil
}
