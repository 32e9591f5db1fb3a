// Package dtype names the element types of safetensors files.
package dtype

// DType is an element type. The order is that of the safetensors library, whose writer puts greater
// types first.
type DType uint8

// The element types, as of safetensors 0.7 (safetensors/src/tensor.rs).
const (
	Invalid DType = iota
	Bool
	F4
	F6E2M3
	F6E3M2
	U8
	I8
	F8E5M2
	F8E4M3 // E4M3FN: no infinities, NaN is 0x7F and 0xFF
	F8E8M0 // powers of two, used as scales
	F8E4M3FNUZ
	F8E5M2FNUZ
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	C64
	F64
	I64
	U64
)

var types = [...]struct {
	name string
	bits int64
}{
	Invalid: {"INVALID", 0}, Bool: {"BOOL", 8}, F4: {"F4", 4}, F6E2M3: {"F6_E2M3", 6}, F6E3M2: {"F6_E3M2", 6},
	U8: {"U8", 8}, I8: {"I8", 8}, F8E5M2: {"F8_E5M2", 8}, F8E4M3: {"F8_E4M3", 8}, F8E8M0: {"F8_E8M0", 8},
	F8E4M3FNUZ: {"F8_E4M3FNUZ", 8}, F8E5M2FNUZ: {"F8_E5M2FNUZ", 8},
	I16: {"I16", 16}, U16: {"U16", 16}, F16: {"F16", 16}, BF16: {"BF16", 16},
	I32: {"I32", 32}, U32: {"U32", 32}, F32: {"F32", 32},
	C64: {"C64", 64}, F64: {"F64", 64}, I64: {"I64", 64}, U64: {"U64", 64},
}

var byName = func() map[string]DType {
	m := make(map[string]DType, len(types))
	for t := range types {
		if DType(t) != Invalid {
			m[types[t].name] = DType(t)
		}
	}
	return m
}()

// Parse returns the type that a safetensors header calls name.
func Parse(name string) (DType, bool) {
	t, ok := byName[name]
	return t, ok
}

// String returns the name used in a safetensors header.
func (t DType) String() string { return types[t].name }

// Bits returns the width of one element.
func (t DType) Bits() int64 { return types[t].bits }

// Size returns the width of one element in bytes, rounded up.
func (t DType) Size() int64 { return (types[t].bits + 7) / 8 }

// IsFloat reports whether --dtype casts the type: F16, BF16 and F32.
func (t DType) IsFloat() bool { return t == F16 || t == BF16 || t == F32 }

// ConfigName returns what config.json calls the type in dtype and torch_dtype, or "" if it has no
// name there.
func (t DType) ConfigName() string {
	switch t {
	case BF16:
		return "bfloat16"
	case F16:
		return "float16"
	case F32:
		return "float32"
	}
	return ""
}

// ByConfigName is the inverse of ConfigName.
func ByConfigName(name string) (DType, bool) {
	for _, t := range []DType{BF16, F16, F32} {
		if t.ConfigName() == name {
			return t, true
		}
	}
	return Invalid, false
}
