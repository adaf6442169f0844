# SPDX-License-Identifier: Apache-2.0
UNITS_IN = %D%/systemd/estargzd.service.in \
	%D%/systemd/estargz-snapshotter.service.in
SOCKETS = %D%/systemd/estargzd.socket %D%/systemd/estargz-snapshotter.socket
systemdsystemunit_DATA += $(UNITS_IN:.in=) $(SOCKETS)
$(UNITS_IN:.in=): Makefile
	@$(MKDIR_P) %D%/systemd
	$(AM_V_GEN)sed 's,@sbindir[@],$(sbindir),' $(srcdir)/$@.in >$@
%D%/systemd/estargzd.service: %D%/systemd/estargzd.service.in
%D%/systemd/estargz-snapshotter.service: \
	%D%/systemd/estargz-snapshotter.service.in
CLEANFILES += $(UNITS_IN:.in=)
sysusersdir = $(prefix)/lib/sysusers.d
dist_sysusers_DATA = %D%/systemd/estargz.conf
EXTRA_DIST += $(UNITS_IN) $(SOCKETS)
# Examples; those of containerd are what tests use.
containerddocdir = $(docdir)/containerd
dist_containerddoc_DATA = %D%/containerd/containerd-1.toml \
	%D%/containerd/containerd-2.toml %D%/containerd/nerdctl.toml
# What looks at the source without running it.
LINT_CHECKS = check-banned check-layers check-headers check-size check-man \
	format-check

.PHONY: lint format print-lint-checks $(LINT_CHECKS)
lint: $(LINT_CHECKS)
print-lint-checks:
	@echo $(LINT_CHECKS)
check-banned check-layers check-size:
	$(srcdir)/%D%/$@
LINT_CPPFLAGS = -I$(abs_builddir) $(FUSE3_CFLAGS) $(URING_CFLAGS) \
	$(CURL_CFLAGS) $(JSON_CFLAGS) $(MHD_CFLAGS)
check-headers:
	CC='$(CC)' CPPFLAGS='$(LINT_CPPFLAGS)' $(srcdir)/%D%/$@
check-man:
	cd $(srcdir) && mandoc -T lint -W warning $(dist_man_MANS)
format-check:
	$(srcdir)/%D%/check-format
format:
	$(srcdir)/%D%/check-format --fix

EXTRA_DIST += %D%/banned-allowed %D%/check %D%/check-banned \
	%D%/check-format %D%/check-headers %D%/check-layers %D%/check-size \
	%D%/clean-leftovers %D%/in-suite %D%/packages %D%/install-packages %D%/size-allowed \
	%D%/sources.sh %D%/quickstart %D%/pre-commit %D%/git.orderfile

bashcompletiondir = $(datadir)/bash-completion/completions
dist_bashcompletion_DATA = %D%/completion/estargz
# bash looks for a file of the command's name.
COMPLETION_LINKS = mount.estargz estargzfs estargzd estargz-snapshotter
install-data-hook:
	cd $(DESTDIR)$(bashcompletiondir) && for l in $(COMPLETION_LINKS); do \
		rm -f $$l && $(LN_S) estargz $$l || exit 1; \
	done
uninstall-local:
	cd $(DESTDIR)$(bashcompletiondir) && rm -f $(COMPLETION_LINKS)
