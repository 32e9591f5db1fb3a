package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// conversion measures a whole conversion in turn with a plain copy loop that reads as many bytes
// from the same files and writes as many as the conversion did.
func (s *Suite) conversion(ctx context.Context, dir string) error {
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := s.Checkpoint(ctx, src, s.Size/2); err != nil {
		return err
	}
	shards, err := filepath.Glob(filepath.Join(src, "*.safetensors"))
	if err != nil {
		return err
	}
	var read, written int64
	convert := func(ctx context.Context) (float64, error) {
		if err := cold(shards...); err != nil {
			return 0, err
		}
		t, err := seconds(func(ctx context.Context) (err error) {
			read, written, err = s.Convert(ctx, src, dst)
			return err
		})(ctx)
		return t, errors.Join(err, os.RemoveAll(dst))
	}
	buffer := aligned(block)
	loop := func(ctx context.Context) (float64, error) {
		if err := errors.Join(cold(shards...), os.Mkdir(dst, 0o700)); err != nil {
			return 0, err
		}
		t, err := seconds(func(ctx context.Context) error { return copyShards(ctx, shards, dst, written, buffer) })(ctx)
		return t, errors.Join(err, os.RemoveAll(dst))
	}
	t, err := rounds(ctx, turns, turns, 0, convert, loop)
	if err != nil {
		return err
	}
	row := Row{Group: "conversion", Name: "copy loop", On: "reads what the conversion reads, writes as much; fsync", Bytes: read + written, Reference: "copy loop"}
	s.add(row, t[1], t[1])
	row.Name, row.On = "convert, FP8 to bfloat16", "end to end"
	s.add(row, t[0], t[1])
	return nil
}

// copyShards writes a number of bytes in all, in proportion to the sizes of the files.
func copyShards(ctx context.Context, shards []string, dst string, written int64, buffer []byte) error {
	sizes := make([]int64, len(shards))
	var all int64
	for i, path := range shards {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		sizes[i] = st.Size()
		all += st.Size()
	}
	for i, path := range shards {
		share := int64(float64(written) * (float64(sizes[i]) / float64(all)))
		if err := copyFile(ctx, path, filepath.Join(dst, filepath.Base(path)), share, buffer); err != nil {
			return err
		}
	}
	return nil
}
