package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// events are for programs: each line of standard error is a JSON object. Seconds are since the
// start; bytes are of total, part of which an earlier run may have done.
type events struct {
	// The least time between two lines of a phase; its first and its last are always written.
	every time.Duration

	json  *json.Encoder
	start time.Time
	phase string
	last  time.Time
}

func newEvents(w io.Writer) *events {
	e := &events{every: 100 * time.Millisecond, json: json.NewEncoder(w), start: time.Now()}
	e.json.SetEscapeHTML(false)
	return e
}

func (e *events) progress(phase string, done, total int64) {
	now := time.Now()
	if phase == e.phase && done < total && now.Sub(e.last) < e.every {
		return
	}
	e.phase, e.last = phase, now
	e.write(struct {
		Event   string  `json:"event"`
		Phase   string  `json:"phase"`
		Bytes   int64   `json:"bytes"`
		Total   int64   `json:"total"`
		Seconds float64 `json:"seconds"`
	}{"progress", phase, done, total, now.Sub(e.start).Seconds()})
}

func (e *events) message(text string) {
	e.write(struct {
		Event string `json:"event"`
		Text  string `json:"text"`
	}{"message", text})
}

func (e *events) write(event any) {
	_ = e.json.Encode(event) // nowhere to report it; SIGPIPE ends the program if the reader has gone
}

// progressFlag is --progress: for people, or json.
type progressFlag struct{ u *ui }

func (f progressFlag) String() string {
	if f.u != nil && f.u.events != nil {
		return "json"
	}
	return ""
}

func (f progressFlag) Set(s string) error {
	switch s {
	case "auto":
		f.u.events = nil
	case "json":
		f.u.events = newEvents(f.u.err)
	default:
		return fmt.Errorf("%q is neither auto nor json", s)
	}
	return nil
}

func (progressFlag) Type() string { return "form" }

func (u *ui) registerProgress(c *cobra.Command) {
	c.Flags().Var(progressFlag{u}, "progress", `json: each line of standard error is an object: {"event":"progress","phase":...,"bytes":n,"total":n,"seconds":s} or {"event":"message","text":...} (default auto)`)
}

// watcher returns what receives progress. Beside a JSON document that is nothing, unless --progress
// json asks for it.
func (u *ui) watcher() func(phase string, done, total int64) {
	switch {
	case u.events != nil:
		return func(phase string, done, total int64) {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.events.progress(phase, done, total)
		}
	case u.json:
		return nil
	}
	return u.progress
}
