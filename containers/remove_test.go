package containers

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// An engine refuses to remove what ends by itself meanwhile, and what somebody else
// removes. The first refusal's text and status are of 20.10, the second's of both.
func TestRemoveOfWhatEndsOrGoesMeanwhile(t *testing.T) {
	const dead, removing, gone = "500 Could not kill running container 0123, cannot remove - Container 0123 is not running",
		"409 removal of container 0123 is already in progress", "404 No such container: 0123"
	tests := []struct {
		name    string
		answers []string // to DELETE, in turn; the last again and again
		want    []string // what is asked
		err     string
	}{
		{"it runs", []string{"204"}, []string{"DELETE"}, ""},
		{"gone", []string{gone}, []string{"DELETE"}, ""},
		{"ends by itself", []string{dead, "204"}, []string{"DELETE", "wait not-running", "DELETE"}, ""},
		{"ends by itself and is removed", []string{dead, gone}, []string{"DELETE", "wait not-running", "DELETE"}, ""},
		{"somebody else removes it", []string{removing}, []string{"DELETE", "wait not-running", "DELETE", "wait removed"}, ""},
		{"it cannot be removed", []string{"500 device or resource busy"}, []string{"DELETE", "wait not-running", "DELETE"}, "device or resource busy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var asked []string
			answers := tt.answers
			e := fakeEngine{
				"DELETE /containers/0123": func(w http.ResponseWriter, _ *http.Request) {
					asked = append(asked, "DELETE")
					status, message, _ := strings.Cut(answers[0], " ")
					if len(answers) > 1 {
						answers = answers[1:]
					}
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(map[string]int{"204": 204, "404": 404, "409": 409, "500": 500}[status])
					if message != "" {
						io.WriteString(w, `{"message": "`+message+`"}`)
					}
				},
				"POST /containers/0123/wait": func(w http.ResponseWriter, r *http.Request) {
					asked = append(asked, "wait "+r.URL.Query().Get("condition"))
					io.WriteString(w, `{"StatusCode": 0}`)
				},
			}.open(t)
			err := e.Remove(t.Context(), "0123")
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Remove = %v, want %q", err, tt.err)
			}
			if !slices.Equal(asked, tt.want) {
				t.Errorf("asked %q, want %q", asked, tt.want)
			}
		})
	}
}
