package metalcast

import "github.com/metalcast/metalcast/internal/checkpoint"

// IsCheckpoint reports whether a directory has the files of a checkpoint, by their names alone.
func IsCheckpoint(dir string) bool { return checkpoint.Looks(dir) }

// CachedModels returns the ids of the checkpoints that the local hub cache has at a revision: a
// branch, tag or commit; "" means main. A source may be one of them instead of a directory.
func CachedModels(revision string) []string { return checkpoint.Cached(revision) }

// CachedRevisions returns the branches, tags and commits that the local hub cache has of a model
// id.
func CachedRevisions(id string) []string { return checkpoint.CachedRevisions(id) }
