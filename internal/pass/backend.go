package pass

import (
	"errors"

	"github.com/metalcast/metalcast/cpufallback"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/kernel"
	"github.com/metalcast/metalcast/metal"
)

// Prepare starts compiling the kernels that OpenBackend would wait for. settle must be called once
// the pass is over, or is not going to happen.
func Prepare(o Options) (settle func()) {
	if o.Device == "cpu" {
		return func() {}
	}
	return metal.Prepare(o.Quantizes)
}

// OpenBackend opens what o.Device asks for. With auto a GPU that cannot be used is a warning; its
// absence is not worth one.
func OpenBackend(o Options) (kernel.Backend, error) {
	cpu := cpufallback.New(0)
	if o.Device == "cpu" {
		return cpu, nil
	}
	strict := o.Device == "metal"
	if !strict && o.Device != "" && o.Device != "auto" {
		return nil, badDevice(o.Device)
	}
	gpu, err := metal.Open(metal.Options{CPU: cpu, Strict: strict, Quantize: o.Quantizes, Warn: o.Warn})
	switch {
	case err == nil:
		return gpu, nil // cpu needs no Close of its own: it has no slot
	case strict:
		if errors.Is(err, fault.ErrNoDevice) {
			return nil, fault.New(fault.ErrNoDevice, "--device metal", "no Metal device").WithHint("--device cpu gives the same bytes")
		}
		return nil, fault.In("--device metal", err)
	case !errors.Is(err, fault.ErrNoDevice) && o.Warn != nil:
		o.Warn(err.Error() + "; the CPU computes")
	}
	return cpu, nil
}

func badDevice(name string) error {
	return fault.New(fault.ErrUsage, "--device", "%q is not one of auto, metal, cpu", name)
}
