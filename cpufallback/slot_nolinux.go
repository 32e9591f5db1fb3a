//go:build unix && !linux

package cpufallback

func preferHugePages([]byte) {} // these systems promote pages on their own
