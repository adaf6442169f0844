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
