package checkpoint

import (
	"io"
	"os"

	"github.com/metalcast/metalcast/internal/fault"
)

// OpenRegular opens a file that may come from anywhere, and refuses anything but a regular one:
// opening a FIFO would wait for ever.
func OpenRegular(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fault.New(fault.ErrMismatch, path, "is not a regular file")
	}
	return os.Open(path)
}

// mostText bounds the files that ReadSmall reads, in bytes.
const mostText = 256 << 20

// ReadSmall reads a regular file whole.
func ReadSmall(path string) ([]byte, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostText+1))
	if len(text) > mostText {
		return nil, fault.New(fault.ErrMismatch, path, "is longer than %d bytes", mostText)
	}
	return text, err
}
