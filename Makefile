.PHONY: setup up test test-fast protos lock replay test-breaker test-heads test-config soak-executor bench-executor bench-classifier fault-cache fault-cache-files test-convergence bench-cache fault-ledger bench-ledger test-jobs test-tls test-rolling test-kills test-scale images images-test sbom audit bench-suite
setup:      ; scripts/setup
up:         ; scripts/quickstart
test:       ; scripts/test
test-fast:  ; scripts/test -m "not slow"
protos:     ; PYTHON=.venv/bin/python PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/generate-protos
lock:       ; scripts/lock
# Recorded prompts through a suite of its own; RECORDED names the files (format: docs/replay.md).
replay:     ; scripts/replay $(RECORDED)
# 10,000 sequences of the breaker against its model (about a minute); the suite runs a few hundred.
test-breaker: ; HYPOTHESIS_PROFILE=thorough scripts/test tests/property/test_breaker.py
# The classifier's head exchanged 100 times while 50 callers classify; the suite does it 12 times.
test-heads: ; SPILLWAY_HEAD_SWAPS=100 scripts/test -s tests/fault/classifier/test_head_swaps.py
# The configuration exchanged 200 times under load, in an executor and in the whole suite; the tests do it 30 and 10 times.
test-config: ; SPILLWAY_CONFIG_SWAPS=200 scripts/test tests/fault/executor/test_config_swaps.py tests/e2e/test_config_changes.py
# Every fault of a provider, in random order, again and again: ROUNDS rounds of about half a minute.
soak-executor: ; SPILLWAY_SOAK_ROUNDS=$(or $(ROUNDS),20) scripts/test -s tests/fault/executor/test_storms.py -k soak
# What the executor adds to a bare call of a provider (docs/bench.md).
bench-executor: ; PYTHONPATH="$(CURDIR)" .venv/bin/python -m bench.executor $(ARGS)
# What a classification costs; PEER names a Python with torch and sentence-transformers to compare with (docs/bench.md).
bench-classifier: ; PYTHONPATH="$(CURDIR)" .venv/bin/python -m bench.classifier $(if $(PEER),--peer-python $(PEER)) $(ARGS)
# The cache's stores and services killed (kill -9) in the middle of writes, ROUNDS times each.
fault-cache: ; SPILLWAY_KILL_ROUNDS=$(or $(ROUNDS),50) scripts/test tests/fault/cache/test_kill_file_store.py tests/fault/cache/test_kill_redis.py
# FILES cache files of each kind damaged, before a start or under it; the suite does it to 25 (docs/cache-operations.md).
fault-cache-files: ; SPILLWAY_DAMAGED_FILES=$(or $(FILES),500) scripts/test tests/fault/cache/test_damaged_files.py
# Three replicas of the cache under RUNS random schedules of writes, invalidations, partitions and restarts.
test-convergence: ; SPILLWAY_CONVERGENCE_RUNS=$(or $(RUNS),50) scripts/test -s tests/fault/cache/test_convergence.py
# What a lookup and a store cost by the number of entries; GPTCACHE names a Python with gptcache to compare with.
bench-cache: ; PYTHONPATH="$(CURDIR)" .venv/bin/python -m bench.cache $(if $(GPTCACHE),--gptcache $(GPTCACHE)) $(ARGS)
# The ledger killed (kill -9) in the middle of batches, ROUNDS times, on SQLite and PostgreSQL.
fault-ledger: ; SPILLWAY_KILL_ROUNDS=$(or $(ROUNDS),50) scripts/test --timeout 3000 tests/fault/ledger -k kills
# What callers notice of a ledger that is killed or frozen (docs/ledger.md).
bench-ledger: ; PYTHONPATH="$(CURDIR)" .venv/bin/python -m bench.ledger $(ARGS)
# Processes that work on jobs killed (kill -9) at random under load, KILLS times; the suite does it 3 times.
test-jobs: ; SPILLWAY_JOB_KILLS=$(or $(KILLS),40) scripts/test -s tests/fault/orchestrator/test_killed_workers.py
# Certificates renewed 20 times under load, and then the authority, with not one call lost (docs/security.md).
test-tls:   ; SPILLWAY_TLS_RENEWALS=20 scripts/test -s tests/security/test_tls_suite.py -k renewed
# The suite as the production overlay has it, two of each, every process restarted six times under 50 callers, 10,000 requests.
test-rolling: ; SPILLWAY_ROLLING_ROUNDS=$(or $(ROUNDS),6) scripts/test -s tests/fault/suite/test_rolling_restart.py
# A replica of each service killed (kill -9), ROUNDS times, then all replicas of one, and Redis; says when callers are served as before.
test-kills:  ; SPILLWAY_REPLICA_KILLS=$(or $(ROUNDS),4) scripts/test -s tests/fault/suite/test_killed_replicas.py
# Executors and classifiers from two to four under load, behind names; shares counted over many requests.
test-scale:  ; SPILLWAY_SCALE_REQUESTS=2000 SPILLWAY_CONNECTION_AGE_S=30 scripts/test -s tests/fault/suite/test_scale_out.py
# Every image built without a registry (Debian's buildah), the suite started from them by podman and looked at.
images:      ; scripts/images $(SERVICE)
images-test: ; SPILLWAY_IMAGES=1 scripts/test -s tests/deploy/test_images.py
# What is in an image (CycloneDX), into .spillway/sbom; known vulnerabilities, which needs the network's advisory services.
sbom:        ; scripts/sbom
audit:       ; scripts/sbom --audit
# What a request costs each process of the suite (docs/scale.md).
bench-suite: ; PYTHONPATH="$(CURDIR)" .venv/bin/python -m bench.suite_cost $(ARGS)
