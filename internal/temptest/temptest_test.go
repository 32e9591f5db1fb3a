package temptest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/metalcast/metalcast/internal/temptest"
)

func TestDirHasNoLinksOnItsWay(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(base, "link")
	if err := os.Mkdir(filepath.Join(base, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", link)
	t.Run("inside", func(t *testing.T) {
		dir := temptest.Dir(t)
		inside, err := filepath.Rel(filepath.Join(base, "real"), dir)
		if err != nil || !filepath.IsLocal(inside) {
			t.Errorf("%s is not in %s", dir, filepath.Join(base, "real"))
		}
	})
}
