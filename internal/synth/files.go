package synth

import (
	"bytes"
	"embed"
	"encoding/json"
	"os"
	"path/filepath"
	"text/template"

	"github.com/metalcast/metalcast/internal/newdir"
)

// files are written unchanged, except README.md, which is a template. The tokenizer has a token for
// every byte and the special ones of config.go.
//
//go:embed files
var files embed.FS

var card = template.Must(template.ParseFS(files, "files/README.md"))

// writeFiles writes everything except the shards; config.json comes last, because a directory that
// has one counts as a model.
func writeFiles(dir string, m *model, shards []shard) error {
	write := func(name string, text []byte) error {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return newdir.Explain(name, err)
		}
		return nil
	}
	for _, name := range []string{"LICENSE", "chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} {
		text, err := files.ReadFile("files/" + name)
		if err != nil {
			return err
		}
		if err := write(name, text); err != nil {
			return err
		}
	}
	var readme bytes.Buffer
	err := card.Execute(&readme, map[string]any{"Family": m.Family, "Release": m.family.release, "Dims": m.dims.String(), "Seed": m.Seed})
	if err != nil {
		return err
	}
	if err := write("README.md", readme.Bytes()); err != nil {
		return err
	}
	if m.Vision && m.family.images != nil {
		if err := write("preprocessor_config.json", jsonText(m.family.images())); err != nil {
			return err
		}
	}
	if len(shards) > 1 {
		if err := write("model.safetensors.index.json", jsonText(index(m, shards))); err != nil {
			return err
		}
	}
	for name, template := range m.family.sides {
		if !m.isFP8() {
			continue
		}
		side, err := m.filled(template)
		if err != nil {
			return err
		}
		if err := write(name, jsonText(side)); err != nil {
			return err
		}
	}
	config, err := m.configJSON()
	if err != nil {
		return err
	}
	return write("config.json", jsonText(config))
}

// index maps every tensor to its shard.
func index(m *model, shards []shard) object {
	where := make(map[string]string, len(m.tensors))
	for i := range shards {
		for j := range shards[i].tensors {
			where[shards[i].tensors[j].Name] = shards[i].name
		}
	}
	return object{"metadata": object{"total_size": m.bytes()}, "weight_map": where}
}

func qwenImages() object {
	v := vision
	half := []json.Number{"0.5", "0.5", "0.5"}
	return object{
		"image_mean":           half,
		"image_processor_type": "Qwen2VLImageProcessorFast",
		"image_std":            half,
		"merge_size":           v.merge,
		"patch_size":           v.patch,
		"processor_class":      "Qwen3VLProcessor",
		"size":                 object{"longest_edge": 16777216, "shortest_edge": 65536},
		"temporal_patch_size":  v.frames,
	}
}

// jsonText encodes v as Hugging Face's libraries do: sorted keys, two spaces, a newline at the end.
func jsonText(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic("synth: internal error: " + err.Error())
	}
	return b.Bytes()
}
