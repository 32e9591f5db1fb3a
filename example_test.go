package metalcast_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/synth"
)

// source makes a checkpoint for the examples, and a directory to write into.
func source() (src, work string, remove func()) {
	work, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	src = filepath.Join(work, "model-FP8")
	if _, err := synth.Write(context.Background(), src, synth.Options{Family: "qwen3_moe", Layers: 1}); err != nil {
		log.Fatal(err)
	}
	return src, work, func() { os.RemoveAll(work) }
}

// A conversion that reports its progress. After an interruption the same call resumes it.
func ExampleConvert() {
	src, work, remove := source()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dst := filepath.Join(work, "model-bf16")
	options := metalcast.Options{
		Device: "cpu",
		Progress: func(phase string, done, total int64) {
			if done == total {
				fmt.Println(phase, "is done")
			}
		},
	}
	report, err := metalcast.Convert(ctx, src, dst, options)
	if interrupted := new(metalcast.Interrupted); errors.As(err, &interrupted) {
		report, err = metalcast.Convert(ctx, src, dst, options) // resumes what is in interrupted.Partial
	}
	if err != nil {
		log.Fatal(err, metalcast.Hint(err))
	}
	fmt.Println(len(report.Tensors), "tensors in", report.DType)
	// Output:
	// converting is done
	// 24 tensors in bfloat16
}

// What a conversion to 4 bits would write, from headers and scales alone.
func ExamplePlanConversion() {
	src, _, remove := source()
	defer remove()
	plan, err := metalcast.PlanConversion(context.Background(), src, metalcast.Options{Quantize: &metalcast.Quantize{}})
	if err != nil {
		log.Fatal(err, metalcast.Hint(err))
	}
	q := plan.Quantization
	fmt.Printf("%d modules in %s, %d bits in groups of %d\n", q.Modules, q.Mode, q.Bits, q.GroupSize)
	for _, m := range q.Other {
		fmt.Println(m.Path, "in", m.Format)
	}
	// Output:
	// 10 modules in affine, 4 bits in groups of 64
	// model.layers.0.mlp.gate in affine 8/64
}

// A converted checkpoint is compared with its source, byte for byte; what differs is located.
func ExampleVerify() {
	src, work, remove := source()
	defer remove()
	ctx, dst := context.Background(), filepath.Join(work, "model-bf16")
	if _, err := metalcast.Convert(ctx, src, dst, metalcast.Options{Device: "cpu"}); err != nil {
		log.Fatal(err, metalcast.Hint(err))
	}
	name := filepath.Join(dst, "model.safetensors")
	data, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		log.Fatal(err)
	}
	result, err := metalcast.Verify(ctx, src, dst, metalcast.VerifyOptions{})
	if !errors.Is(err, metalcast.ErrMismatch) {
		log.Fatal(err)
	}
	for _, d := range result.Differences {
		fmt.Println(d.Tensor, "differs at", d.Where)
	}
	// Output:
	// model.norm.weight differs at element 255
}
