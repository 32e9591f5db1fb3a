package space

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A system keeps free the smaller of 5 GB and a fiftieth on a Mac, nothing elsewhere; where more
// may be freed on demand, only what exceeds the whole disk is refused.
func TestSpaceRules(t *testing.T) {
	const gb = int64(1e9)
	mac, other := For("darwin"), For("linux")
	for _, tt := range []struct {
		rules  Rules
		s      Disk
		need   int64
		refuse bool
		maybe  bool
	}{
		{other, Disk{100 * gb, 500 * gb, "ext4"}, 100 * gb, false, false},
		{other, Disk{100 * gb, 500 * gb, "apfs"}, 100*gb + 1, true, false},
		{mac, Disk{100 * gb, 500 * gb, "apfs"}, 95 * gb, false, false},
		{mac, Disk{100 * gb, 500 * gb, "apfs"}, 95*gb + 1, true, true},
		{mac, Disk{100 * gb, 500 * gb, "exfat"}, 95*gb + 1, true, false}, // nothing can be freed there
		{mac, Disk{100 * gb, 500 * gb, "apfs"}, 495 * gb, true, true},
		{mac, Disk{100 * gb, 500 * gb, "apfs"}, 495*gb + 1, true, false}, // whatever is freed
		{mac, Disk{20 * gb, 100 * gb, "apfs"}, 18 * gb, false, false},
		{mac, Disk{20 * gb, 100 * gb, "apfs"}, 18*gb + 1, true, true},
		{mac, Disk{1 * gb, 100 * gb, "apfs"}, 0, true, true},
	} {
		maybe, err := tt.rules.refuse("/dst", tt.need, tt.s)
		assert.Equal(t, tt.refuse, err != nil, "%+v", tt)
		assert.Equal(t, tt.maybe, maybe, "%+v", tt)
	}
	_, err := mac.refuse("/dst", 100*gb, Disk{100 * gb, 500 * gb, "apfs"})
	assert.EqualError(t, err, "/dst: 93 GiB (100000000000 bytes) are needed, 93 GiB (100000000000 bytes) are free, of which 4.7 GiB (5000000000 bytes) stay free for swap files")
}
