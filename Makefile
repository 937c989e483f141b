.PHONY: setup up test test-fast protos lock replay
setup:      ; scripts/setup
up:         ; scripts/quickstart
test:       ; scripts/test
test-fast:  ; scripts/test -m "not slow"
protos:     ; PYTHON=.venv/bin/python PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/generate-protos
lock:       ; scripts/lock
# Recorded prompts through a suite of its own; RECORDED names the files (format: docs/replay.md).
replay:     ; scripts/replay $(RECORDED)
