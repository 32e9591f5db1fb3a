//go:build race

package kerneltest

// raceEnabled means that code runs ten times slower, so the exhaustive parts, which have no
// concurrency of their own, take samples.
const raceEnabled = true
