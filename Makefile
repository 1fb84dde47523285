# Sallyport. `make` builds the programs and the agent images; see CONTRIBUTING.md.

PREFIX ?= /usr/local
DESTDIR ?=
GO ?= go

.PHONY: all build images install test lint fuzz bench demo verify clean

all: build images

# Two static programs in bin/.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o bin/ ./cmd/gateway ./cmd/launcher

# The agent images, on your own Docker engine: a base, and one per model on it.
images: build
	scripts/images

install: build
	install -d '$(DESTDIR)$(PREFIX)/bin' \
		'$(DESTDIR)$(PREFIX)/share/bash-completion/completions' \
		'$(DESTDIR)$(PREFIX)/share/zsh/site-functions' \
		'$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d'
	install -m 755 bin/gateway bin/launcher '$(DESTDIR)$(PREFIX)/bin/'
	for p in gateway launcher; do \
		bin/$$p completion bash >'$(DESTDIR)$(PREFIX)/share/bash-completion/completions/'$$p && \
		bin/$$p completion zsh >'$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_'$$p && \
		bin/$$p completion fish >'$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/'$$p.fish || exit 1; \
	done

# Everything: unit tests, then the lab on two engines. Installs what is missing.
test:
	scripts/test

lint:
	scripts/lint

# A few seconds for each fuzz target. FUZZTIME=1m make fuzz for more.
fuzz:
	scripts/fuzz

# Sallyport beside its peers, in the lab: writes docs/benchmarks.md and its plot.
# CASE=sse-1 make bench: one case, printed only. `scripts/bench -list` names them.
CASE ?=
bench:
	scripts/bench $(if $(CASE),-case '$(CASE)',-out docs)

# The battery of gateway verify in the lab, on both engines.
verify:
	scripts/verify

# A scripted session, from nothing; ends with what was refused.
demo:
	scripts/demo

clean:
	rm -rf bin
