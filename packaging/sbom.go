package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tidwall/sjson"
)

// writeSBOM writes cyclonedx-gomod's list of the program's components, without the part that
// depends on the machine, the checksums of the tool itself. The version is the release's, because
// the tool knows no version for a commit without a tag.
func (r *release) writeSBOM(out, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if text, err = sjson.DeleteBytes(text, "metadata.tools.0.hashes"); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for key, value := range map[string]string{"metadata.component.version": r.version, "metadata.timestamp": r.time.Format(time.RFC3339)} {
		if text, err = sjson.SetBytes(text, key, value); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	name := filepath.Join(out, "metalcast-"+r.version+".cdx.json")
	fmt.Println(name)
	return os.WriteFile(name, text, 0o644)
}
