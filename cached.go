package metalcast

import "github.com/metalcast/metalcast/internal/checkpoint"

// IsCheckpoint reports whether a directory has the files of a checkpoint, going by their names; it reads none of them.
func IsCheckpoint(dir string) bool { return checkpoint.Looks(dir) }

// CachedModels lists the ids of the checkpoints that the local hub cache has at a revision, a branch, tag or commit; "" means main. They are what SRC may be beside directories.
func CachedModels(revision string) []string { return checkpoint.Cached(revision) }

// CachedRevisions lists the branches, tags and commits that the local hub cache has of a model id.
func CachedRevisions(id string) []string { return checkpoint.CachedRevisions(id) }
