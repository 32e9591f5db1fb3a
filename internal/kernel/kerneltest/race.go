//go:build race

package kerneltest

// raceEnabled tells that code runs ten times slower: the exhaustive parts, which have no concurrency of their own, take samples.
const raceEnabled = true
