package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"path"
)

// EncodingsURL is where the vocabulary files are: DEFAULT_TIKTOKEN_BASE_URL of
// openai/harmony src/tiktoken_ext/public_encodings.rs@55dc322.
const EncodingsURL = "https://openaipublic.blob.core.windows.net/encodings"

// EncodingsFolder holds the vocabulary files, in the weights' folder. A server is
// shown it as TIKTOKEN_ENCODINGS_BASE.
const EncodingsFolder = "sallyport-encodings"

// Vocabulary is a vocabulary file by what it must contain.
type Vocabulary struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Vocabularies are the files that openai_harmony loads for gpt-oss: names and
// hashes as expected_hash of public_encodings.rs@55dc322 has them.
func Vocabularies() []Vocabulary {
	return []Vocabulary{
		{"o200k_base.tiktoken", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"},
		{"cl100k_base.tiktoken", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"},
	}
}

var vocabularyName = lazily(`^[a-z0-9][a-z0-9_]{0,60}\.tiktoken$`)

func (v Vocabulary) check() error {
	if !vocabularyName().MatchString(v.Name) || !sha256Hash().MatchString(v.SHA256) {
		return fail(KindUsage, "", "%q is no vocabulary file", printable(v.Name))
	}
	return nil
}

// vocabularies are the vocabulary files that are wanted.
func (w Want) vocabularies() []Vocabulary {
	switch {
	case !w.Encodings:
		return nil
	case len(w.Vocabularies) == 0:
		return Vocabularies()
	}
	return w.Vocabularies
}

// maxVocabulary bounds a vocabulary file, in bytes; the larger of the two has 3.6 MB.
const maxVocabulary = 32 << 20

// vocabulary brings one vocabulary file into EncodingsFolder, unless it is there.
func (f *fetcher) vocabulary(v Vocabulary) error {
	what := "download " + v.Name
	name := path.Join(EncodingsFolder, v.Name)
	if err := f.store.root.MkdirAll(EncodingsFolder, 0o755); err != nil {
		return f.explain(what, err)
	}
	if data, err := f.store.root.ReadFile(name); err == nil && v.matches(data) {
		return nil
	}
	base, err := url.Parse(f.job.EncodingsURL)
	if err != nil {
		return f.explain(what, err)
	}
	return f.retry(what, true, func() error {
		a, err := f.client.get(f.ctx, base.JoinPath(v.Name), 0)
		if err != nil {
			return err
		}
		data, err := body(a, maxVocabulary)
		if err != nil {
			return err
		}
		if !v.matches(data) {
			return fail(KindCorrupt, "", "%s: it is not the file that gpt-oss was trained with: its SHA-256 is not %s", what, v.SHA256)
		}
		return replace(f.store.root, name, data)
	})
}

func (v Vocabulary) matches(data []byte) bool {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]) == v.SHA256
}
