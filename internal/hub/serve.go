package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// hub is what the hub's own name serves: the paths, fields and headers that
// huggingface_hub reads (src/huggingface_hub/{hf_api,file_download}.py@ee0a451).
func (s *Server) hub() http.Handler {
	api, files := http.NewServeMux(), http.NewServeMux()
	api.HandleFunc("GET /api/models/{org}/{name}/revision/{revision}", s.api("revision", s.revision))
	api.HandleFunc("GET /api/models/{org}/{name}/tree/{revision}", s.api("tree", s.tree))
	api.HandleFunc("GET /api/resolve-cache/models/{org}/{name}/{revision}/{path...}", s.api("", s.cached))
	files.HandleFunc("GET /{org}/{name}/resolve/{revision}/{path...}", s.api("", s.resolve))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			api.ServeHTTP(w, r)
			return
		}
		files.ServeHTTP(w, r)
	})
}

// refuse is an error as the hub answers it.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Error-Code", code)
	w.Header().Set("X-Error-Message", message)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message})
}

// api finds the repository and checks token and revision. what is the fault's path.
func (s *Server) api(what string, do func(http.ResponseWriter, *http.Request, *Repo)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if what != "" {
			s.count(what, 1)
			if f := s.fault(what, func(f *Fault) bool { return f.Status != 0 && f.Path != "" }); f.Status != 0 {
				spoil(w, f)
				return
			}
		}
		s.mu.Lock()
		repo := s.repos[r.PathValue("org")+"/"+r.PathValue("name")]
		s.mu.Unlock()
		authorized := r.Header.Get("Authorization")
		revision := r.PathValue("revision")
		switch {
		case repo == nil && authorized == "":
			refuse(w, http.StatusUnauthorized, "RepoNotFound", "Invalid username or password.")
		case repo == nil:
			refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
		case repo.Token != "" && authorized != "Bearer "+repo.Token && what != "revision":
			refuse(w, http.StatusUnauthorized, "GatedRepo", "Access to model "+repo.Name+" is restricted. You must have access to it and be authenticated to access it. Please log in.")
		case revision != "main" && revision != repo.Commit:
			refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
		default:
			do(w, r, repo)
		}
	}
}

func spoil(w http.ResponseWriter, f *Fault) {
	for name, value := range f.Headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(f.Status)
}

func (s *Server) revision(w http.ResponseWriter, _ *http.Request, repo *Repo) {
	type sibling struct {
		Name string `json:"rfilename"`
	}
	var siblings []sibling
	for _, f := range repo.Files {
		siblings = append(siblings, sibling{f.Path})
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"_id": "0", "id": repo.Name, "modelId": repo.Name, "sha": or(repo.Lie, repo.Commit), "private": false,
		"gated": repo.Token != "", "disabled": false, "tags": []string{}, "siblings": siblings,
	})
}

// tree answers a page. The cursor is the number of the first file.
func (s *Server) tree(w http.ResponseWriter, r *http.Request, repo *Repo) {
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	from = min(max(from, 0), len(repo.Files))
	to := min(from+repo.Page, len(repo.Files))
	entries := []map[string]any{}
	for _, f := range repo.Files[from:to] {
		if dir, _, ok := strings.Cut(f.Path, "/"); ok && from == 0 {
			entries = append(entries, map[string]any{"type": "directory", "oid": f.Git(), "size": 0, "path": dir})
		}
		e := map[string]any{"type": "file", "oid": f.Git(), "size": len(f.Data), "path": f.Path}
		if f.LFS {
			e["lfs"] = map[string]any{"oid": f.SHA256(), "size": len(f.Data), "pointerSize": 134}
			e["xetHash"] = f.SHA256()
		}
		entries = append(entries, e)
	}
	if to < len(repo.Files) {
		next := url.URL{Scheme: "https", Host: or(s.Host, Host) + s.Port, Path: r.URL.Path,
			RawQuery: url.Values{"recursive": {"true"}, "expand": {"false"}, "cursor": {strconv.Itoa(to)}}.Encode()}
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, &next))
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(entries)
}

func (r *Repo) file(path string) *File {
	for i := range r.Files {
		if r.Files[i].Path == path {
			return &r.Files[i]
		}
	}
	return nil
}

// resolve redirects: an LFS file to the CDN, any other to the hub's own cache.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request, repo *Repo) {
	path := r.PathValue("path")
	s.count("resolve "+path, 1)
	f := repo.file(path)
	if f == nil {
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	fault := s.fault(path, func(f *Fault) bool { return f.Redirect != "" || f.Status != 0 })
	if fault.Status != 0 {
		spoil(w, fault)
		return
	}
	w.Header().Set("X-Repo-Commit", repo.Commit)
	w.Header().Set("Accept-Ranges", "bytes")
	status, location := http.StatusTemporaryRedirect, "/api/resolve-cache/models/"+repo.Name+"/"+repo.Commit+"/"+url.PathEscape(path)
	if f.LFS {
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(f.Data)))
		w.Header().Set("X-Linked-Etag", `"`+f.SHA256()+`"`)
		w.Header().Set("X-Xet-Hash", f.SHA256())
		status = http.StatusFound
		location = "https://" + or(s.CDN, CDNHost) + s.Port + "/repos/" + repo.Name + "/" + f.SHA256() + "?Expires=1&Signature=SIGNED"
	}
	if fault.Redirect != "" {
		location = fault.Redirect
	}
	w.Header().Set("Location", location)
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "%s. Redirecting to %s", http.StatusText(status), location)
}

// cached serves a file of git's own.
func (s *Server) cached(w http.ResponseWriter, r *http.Request, repo *Repo) {
	f := repo.file(r.PathValue("path"))
	if f == nil {
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	w.Header().Set("X-Repo-Commit", repo.Commit)
	w.Header().Set("Etag", `"`+f.Git()+`"`)
	s.send(w, r, f.Path, f.Data)
}

// cdn serves an LFS file. It knows nothing of commits and tokens.
func (s *Server) cdn(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("Signature") != "SIGNED" || r.Header.Get("Authorization") != "" {
		http.Error(w, "AccessDenied", http.StatusForbidden)
		return
	}
	hash := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	s.mu.Lock()
	var found *File
	for _, repo := range s.repos {
		for i := range repo.Files {
			if repo.Files[i].LFS && repo.Files[i].SHA256() == hash {
				found = &repo.Files[i]
			}
		}
	}
	s.mu.Unlock()
	if found == nil {
		http.NotFound(w, r)
		return
	}
	s.count("cdn "+found.Path, 1)
	w.Header().Set("Etag", `"`+hash[:32]+`-1"`)
	s.send(w, r, found.Path, found.Data)
}

func (s *Server) encodings(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/encodings/")
	s.mu.Lock()
	data, ok := s.vocabularies[name]
	s.mu.Unlock()
	s.count("encodings "+name, 1)
	if !ok {
		http.NotFound(w, r)
		return
	}
	s.send(w, r, name, data)
}

// send sends a file or its rest, as the faults want it.
func (s *Server) send(w http.ResponseWriter, r *http.Request, path string, data []byte) {
	f := s.fault(path, func(f *Fault) bool { return f.Redirect == "" && f.Status == 0 })
	from := 0
	var last string
	if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%s", &from, &last); n < 1 || err == nil || f.NoRange {
		from = 0 // only "bytes=N-" is known
	}
	if from > 0 && from >= len(data) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(data)))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	rest := data[from:]
	if f.Corrupt {
		rest = append([]byte(nil), rest...)
		rest[len(rest)/2] ^= 1
	}
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
	if from > 0 {
		w.Header().Set("Content-Range", or(f.Range, fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data))))
		w.WriteHeader(http.StatusPartialContent)
	}
	if f.Cut > 0 && f.Cut < int64(len(rest)) {
		s.write(w, rest[:f.Cut])
		_ = http.NewResponseController(w).Flush()
		if f.Hold == nil {
			panic(http.ErrAbortHandler)
		}
		select {
		case <-f.Hold:
		case <-r.Context().Done():
			return
		}
		rest = rest[f.Cut:]
	}
	s.write(w, rest)
}

func (s *Server) write(w http.ResponseWriter, data []byte) {
	n, _ := w.Write(data) // a client that went away is no fault
	s.count("bytes", n)
}
