package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/metalcast/metalcast"
)

func newMan(u *ui) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "write the man pages into a directory",
		Long:    "man writes a man page for each command into the directory DIR, which is made if need be. Pages that are there already are replaced.",
		Example: "  metalcast man ~/.local/share/man/man1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Source: "metalcast " + metalcast.Version, Manual: "metalcast"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return err
			}
			u.messagef("%s: man pages written", args[0])
			return nil
		},
	}
}
