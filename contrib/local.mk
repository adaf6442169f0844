# SPDX-License-Identifier: Apache-2.0
systemdsystemunit_DATA += %D%/systemd/estargzd.service %D%/systemd/estargzd.socket
%D%/systemd/estargzd.service: %D%/systemd/estargzd.service.in Makefile
	@$(MKDIR_P) %D%/systemd
	$(AM_V_GEN)sed 's,@sbindir[@],$(sbindir),' \
		$(srcdir)/%D%/systemd/estargzd.service.in >$@
CLEANFILES += %D%/systemd/estargzd.service
sysusersdir = $(prefix)/lib/sysusers.d
dist_sysusers_DATA = %D%/systemd/estargz.conf
EXTRA_DIST += %D%/systemd/estargzd.service.in %D%/systemd/estargzd.socket
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
	%D%/clean-leftovers %D%/packages %D%/install-packages %D%/size-allowed \
	%D%/sources.sh %D%/quickstart %D%/pre-commit %D%/git.orderfile

bashcompletiondir = $(datadir)/bash-completion/completions
dist_bashcompletion_DATA = %D%/completion/estargz
install-data-hook:
	cd $(DESTDIR)$(bashcompletiondir) && rm -f mount.estargz && \
		$(LN_S) estargz mount.estargz
uninstall-local:
	rm -f $(DESTDIR)$(bashcompletiondir)/mount.estargz
