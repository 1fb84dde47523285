package terminal

import "testing"

func TestUndo(t *testing.T) {
	const tail = "\x1b>\x0f\x1b(B\x1b[0m"
	tests := []struct{ name, in, want string }{
		{"text", "hello", ""},
		{"colour left on", "\x1b[31mred", tail},
		{"alternate screen", "\x1b[?1049h", "\x1b[?1049l" + tail},
		{"reset by the agent", "\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l", tail},
		{"several at once", "\x1b[?1002;1006;2004h\x1b[?25l", "\x1b[?1002l\x1b[?1006l\x1b[?2004l\x1b[?25h" + tail},
		{"keyboard", "\x1b[>1u\x1b[>5u\x1b[<u", "\x1b[<1u" + tail},
		{"other keys", "\x1b[>4;2m", "\x1b[>4m" + tail},
		{"other keys reset", "\x1b[>4;2m\x1b[>4m", tail},
		{"cursor shape", "\x1b[5 q", "\x1b[0 q" + tail},
		{"full reset", "\x1b[?1049h\x1bc", tail},
		{"in a title", "\x1b]0;tit", "\x1b\\"},
		{"in a sequence", "\x1b[?25l\x1b[3", "\x18\x1b[?25h" + tail},
		{"unknown", "\x1b[?7777h\x1b[?;25l", "\x1b[?25h" + tail},
		{"as C1", "\u009b?25l", "\x1b[?25h" + tail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := NewFilter(discard{})
			f.Write([]byte(tt.in))
			if got := string(f.Undo()); got != tt.want {
				t.Errorf("Undo() = %q, want %q", got, tt.want)
			}
		})
	}
}
