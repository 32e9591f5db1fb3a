package fault_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/metalcast/metalcast/internal/fault"
)

// Text from a checkpoint may have any length and content; a message is still one readable line.
func TestMessagesAreShortAndPlain(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	err := fault.In("a\nb", &fault.Error{Kind: fault.ErrCorrupt, Where: "x\x1b[", What: "is " + long + ", a number was expected", Err: errors.New(long)}).(*fault.Error).WithHint("%s", long) //nolint:errorlint // as In made it
	text := err.Error()
	assert.Less(t, len(text), 3000)
	assert.True(t, strings.HasPrefix(text, `a\nb: x\x1b[: is éé`), text[:40])
	assert.Contains(t, text, ", a number was expected: é")
	assert.Contains(t, text, " bytes)... ")
	assert.NotContains(t, text, "\uFFFD")
	assert.Less(t, len(fault.Hint(err)), 2000)
	assert.Equal(t, "a\nb: x\x1b[", err.Where, "what programs read stays")
	assert.ErrorIs(t, err, fault.ErrCorrupt)
}
