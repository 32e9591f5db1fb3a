// Package metalcast converts FP8 checkpoints into ones that Apple-silicon runtimes load.
//
// A checkpoint is a directory of safetensors shards, an index and a config. Labs publish them with
// E4M3 weights, a scale for each block of 128x128 elements, and one tensor for each expert; mlx-lm
// and its relatives want bfloat16 and, for some families, an expert axis. [Convert] does that in
// one streaming pass: memory stays within a bound whatever the model's size, DST appears complete
// or not at all, and the same source and options produce the same bytes on every machine and
// device, with any amount of memory.
//
//	report, err := metalcast.Convert(ctx, "model-FP8", "model-bf16", metalcast.Options{})
//
// [PlanConversion] returns, from headers and scales alone, what Convert would write; [Inspect]
// describes a checkpoint; [Verify] compares a converted checkpoint with its source.
//
// # Sources
//
// A source is a directory, or the id of a model ("org/name") in the local hub cache, which is
// found by the rules of HF_HOME and HF_HUB_CACHE. Nothing is downloaded, and nothing in a source
// is ever written to.
//
// # Arithmetic
//
// A weight is bf16(f32(code) * f32(scale)), both steps rounded to nearest even, as DeepSeek's
// reference script, compressed-tensors and MLX compute it. NaN codes and scales that are not
// finite are refused, with their location, unless Options.KeepNaN accepts them. Tensors that are
// not FP8 pass byte for byte unless Options.DType asks for a cast.
//
// # Errors
//
// Every error says where, what was found and what was expected. errors.Is finds its cause
// ([ErrCorrupt] and so on), and [Hint] what to do about it. The package never logs, never exits,
// and leaves no DST behind on failure.
//
// Convert keeps its memory promise for the whole process: while it runs it sets the Go runtime's
// memory limit (debug.SetMemoryLimit), so run one conversion at a time.
package metalcast

// Version is the version of the tool, a semantic one; a release candidate ends with -rc.N. Model
// cards and metalcast.json name it, whatever the program was built from.
const Version = "0.1.0"

// Report is what a conversion did.
type Report struct {
	Preview
	Destination  string  `json:"destination"`
	Device       string  `json:"device"`                // metal or cpu
	GPUSeconds   float64 `json:"gpu_seconds,omitempty"` // spent by the GPU on windows
	BytesRead    int64   `json:"bytes_read"`
	BytesWritten int64   `json:"bytes_written"`
	Seconds      float64 `json:"seconds"`
	// PeakMemory is the resident memory of the whole process; 0 if the system does not report it.
	PeakMemory int64 `json:"peak_memory_bytes"`
	Verified   bool  `json:"verified"`
	// Resumed: an interrupted run had done a part.
	Resumed     bool      `json:"resumed,omitempty"`
	Findings    []Finding `json:"findings,omitempty"`
	NVFP4Groups int64     `json:"nvfp4_groups,omitempty"`
	// NVFP4Zeroed groups have a zero scale, and so only zero weights.
	NVFP4Zeroed int64 `json:"nvfp4_zeroed_groups,omitempty"`
	// NVFP4Coarse groups have a subnormal scale, of fewer than four significant bits.
	NVFP4Coarse int64 `json:"nvfp4_coarse_groups,omitempty"`
}

// Finding is a source tensor with values that a sound checkpoint does not have.
type Finding struct {
	Tensor    string `json:"tensor"`
	NaNCodes  int64  `json:"nan_codes,omitempty"`
	BadScales int64  `json:"non_finite_scales,omitempty"`
	Overflows int64  `json:"overflows,omitempty"`
	// Large weights are beyond what any model has; Largest is the greatest magnitude among them.
	Large   int64   `json:"large_weights,omitempty"`
	Largest float64 `json:"largest_weight,omitempty"`
}
