//go:build purego || !(amd64 || arm64)

package mlxquant

import "github.com/metalcast/metalcast/internal/dtype"

func fastRow(Format, Profile) rowFunc { return nil }

func fastWiden([]float32, []byte, dtype.DType) int { return 0 }
