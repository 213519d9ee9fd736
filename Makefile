# Everything happens in .venv, which tools/environment.sh makes and keeps up to date.
# The interpreter is the newest of Python 3.11 to 3.13 that is found, or the one named: make test PYTHON=/path/to/python3.12

export PYTHON
# Tests and the demo start the broker again and again: where nothing compiled is kept, each start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test lint docs reference bench storm faults campaigns matrix fuzz soak audit coverage clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

# A recipe of one plain command: make starts it without a shell in between, so Ctrl-C and SIGTERM reach it and
# its exit status comes back.
run: ## start the broker with devices of every protocol and applications of every kind (Ctrl-C stops all)
	@sh tools/environment.sh run
	@.venv/bin/python -m broker.simulate demo

test: ## check style and types, run the tests (TESTS=tests.mqtt: only these)
	@sh tools/environment.sh test
	@.venv/bin/python tools/check.py test $(TESTS)

lint: ## check style and types only
	@sh tools/environment.sh check
	@.venv/bin/python tools/check.py lint

docs: ## build the manual as web pages, build/manual/index.html
	@sh tools/environment.sh check
	@.venv/bin/python -m sphinx -W --keep-going -q -b html docs build/manual
	@echo "build/manual/index.html"

reference: ## write the pages of the manual that come from the code
	@sh tools/environment.sh check
	@.venv/bin/python -m tools.reference

bench: ## measure what a message costs
	@sh tools/environment.sh check
	@.venv/bin/python -m benchmarks

storm: ## kill the broker a hundred times under load: nothing may be lost
	@sh tools/environment.sh check
	@.venv/bin/python -m tests.kill_storm

faults: ## let everything fail under three processes and a Redis for some minutes: nothing may be lost
	@sh tools/environment.sh test
	@.venv/bin/python -m tests.faults

campaigns: ## firmware for 200 gateways and 200 modules, through two kills: every line has to be true
	@sh tools/environment.sh test
	@BROKER_TEST_CAMPAIGN=200 .venv/bin/python -m twisted.trial tests.fleet.test_campaign_real

matrix: ## every device with every application, in one broker; writes docs/matrix.md
	@sh tools/environment.sh test
	@.venv/bin/python -m tests.matrix

fuzz: ## any bytes for every decoder and listener (MINUTES=10)
	@sh tools/environment.sh check
	@.venv/bin/python -m tests.fuzz --minutes $(or $(MINUTES),10)

soak: ## every protocol for an hour: the broker may not grow (MINUTES=60)
	@sh tools/environment.sh test
	@.venv/bin/python -m tests.soak --minutes $(or $(MINUTES),60)

audit: ## look for known faults in the code (bandit) and in what it depends on (pip-audit)
	@sh tools/environment.sh check
	@.venv/bin/python tools/audit.py

coverage: ## run the tests and show the lines that none of them reaches
	@sh tools/environment.sh test
	@.venv/bin/coverage erase
	@.venv/bin/coverage run tools/check.py test $(TESTS)
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report

clean: ## remove what the other targets made, except the broker's data in var/
	@rm -rf .venv install.log build dist *.egg-info _trial_temp* .hypothesis .mypy_cache .ruff_cache .coverage* htmlcov
	@find . -name dropin.cache -type f -delete
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
