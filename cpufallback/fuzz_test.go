package cpufallback

import (
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/internal/kernel/kerneltest"
)

// FuzzDequant compares jobs of any geometry with the reference. types chooses the output and scale types, raw is codes and scales.
func FuzzDequant(f *testing.F) {
	f.Add(uint16(130), uint16(200), uint16(128), uint16(128), uint16(0), uint16(0), uint8(0), []byte("\x00\x7f\x80\xff\x38\x39"))
	f.Add(uint16(1), uint16(1), uint16(1), uint16(1), uint16(0), uint16(0), uint8(1), []byte{0x7E})
	f.Add(uint16(7), uint16(300), uint16(3), uint16(5), uint16(2), uint16(4), uint8(5), []byte{1, 2, 3, 0xFF, 0x7F, 0x80})
	f.Add(uint16(40), uint16(70), uint16(1), uint16(32), uint16(0), uint16(31), uint8(2), []byte{0, 0, 0x80, 0x7F})
	f.Add(uint16(300), uint16(9), uint16(1000), uint16(1), uint16(999), uint16(0), uint8(4), []byte{0, 1, 0, 0, 0xFF, 0xFF, 0x7F, 0x7F})
	be := New(2)
	f.Cleanup(func() { _ = be.Close() })
	rig := kerneltest.NewRig(be)
	f.Fuzz(func(t *testing.T, rows, cols, blockRows, blockCols, rowPhase, colPhase uint16, types uint8, raw []byte) {
		p := kernel.Params{Op: kernel.Dequant, From: dtype.F8E4M3, BlockRows: 1 + int(blockRows), BlockCols: 1 + int(blockCols)}
		p.To = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32}[types%3]
		p.Transposed = types >= 128
		p.ScaleType = []dtype.DType{dtype.BF16, dtype.F32, dtype.F16, dtype.F8E8M0}[types/3%4]
		l := kerneltest.Layout{
			Rows: 1 + int(rows%512), Cols: 1 + int(cols%512), RowPhase: int(rowPhase) % p.BlockRows, ColPhase: int(colPhase) % p.BlockCols,
			Shift: int(types / 6 % 8), SrcGap: int(types % 5), DstGap: int(types % 7), ScaleGap: int(types % 2), Codes: raw,
		}
		for n := int(p.ScaleType.Size()); len(raw) >= n; raw = raw[n:] {
			var word [4]byte
			copy(word[:], raw[:n])
			l.Scales = append(l.Scales, little.Uint32(word[:]))
		}
		w := kerneltest.NewWindow(uint64(types))
		w.Add(p, l)
		rig.Check(t, w)
	})
}
