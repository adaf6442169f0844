# SPDX-License-Identifier: Apache-2.0
# End-to-end scripts; they skip what the machine cannot do.
SH_TESTS += \
	%D%/m01-local.sh \
	%D%/m02-registry.sh \
	%D%/m03-auth.sh \
	%D%/m04-requests.sh \
	%D%/m05-faults.sh \
	%D%/m06-hostile.sh \
	%D%/m07-kill.sh \
	%D%/m08-options.sh \
	%D%/m09-semantics.sh \
	%D%/m10-shared.sh \
	%D%/m11-powercut.sh \
	%D%/m12-supervised.sh \
	%D%/m13-prune.sh \
	%D%/m14-trace.sh \
	%D%/m15-datapath.sh \
	%D%/m16-openmode.sh \
	%D%/m17-native.sh \
	%D%/m18-native-image.sh \
	%D%/m20-lastrun.sh \
	%D%/m21-serial.sh \
	%D%/m30-merged.sh

EXTRA_DIST += tests/lib.sh tests/containerd.sh tests/convert.sh tests/snap.sh tests/images.sh \
	tests/systemd.sh \
	tests/tools/esgz.py tests/tools/mkesgz.py tests/tools/rdcheck.py \
	tests/tools/treecmp.py tests/tools/connectproxy.py tests/tools/nginx.py \
	tests/tools/snapctl.py tests/tools/snapsuite.py tests/tools/snapkill.py \
	tests/tools/compose.py tests/tools/mutate.sh \
	tests/tools/h2raw.py tests/tools/grpccheck.py \
	tests/tools/cri.py tests/tools/cri.proto tests/tools/supervise.py \
	tests/tools/lazypull.py tests/tools/listtree.py tests/tools/mkimage.py \
	tests/tools/mkstack.py tests/tools/unpack.py

check_PROGRAMS += tests/tools/erofs-sample
tests_tools_erofs_sample_SOURCES = tests/tools/erofs-sample.c tests/unit/mktoc.h
SH_TESTS += %D%/erofs-kernel.sh
SH_TESTS += %D%/f01-estargzd.sh %D%/f02-faults.sh %D%/f03-proxy.sh
SH_TESTS += %D%/f04-warm.sh %D%/f05-start.sh %D%/f06-tls.sh \
	%D%/f07-names.sh %D%/f08-trace.sh %D%/f09-refer.sh \
	%D%/f10-dns.sh %D%/f11-several.sh
SH_TESTS += %D%/s01-grpc.sh %D%/s02-conformance.sh %D%/s03-ctr.sh \
	%D%/s08-tree.sh %D%/s04-lazy.sh %D%/s05-kill.sh
SH_TESTS += %D%/d01-man.sh %D%/d02-systemd.sh
SH_TESTS += %D%/s10-containers.sh %D%/s11-churn.sh %D%/s12-kills.sh \
	%D%/s13-cri.sh %D%/s14-containerd2.sh %D%/s15-systemd.sh \
	%D%/s20-chains.sh \
	%D%/s22-names.sh %D%/s23-referrer.sh
SH_TESTS += %D%/c30-optimize.sh %D%/c31-record.sh
SH_TESTS += %D%/s06-program.sh %D%/s16-native.sh %D%/s17-handover.sh \
	%D%/s18-native-containers.sh
SH_TESTS += %D%/c20-events.sh %D%/c21-trace.sh %D%/c22-events-dir.sh
EXTRA_DIST += tests/tools/snapload.py tests/tools/activate.py \
	tests/tools/handover.py
SH_TESTS += %D%/c01-registry.sh
SH_TESTS += %D%/c02-images.sh %D%/c03-inspect.sh %D%/c04-verify.sh
SH_TESTS += %D%/c05-build.sh
EXTRA_DIST += tests/tools/liars.py
SH_TESTS += %D%/c10-convert.sh
SH_TESTS += %D%/c11-interop.sh
SH_TESTS += %D%/c12-malformed.sh
SH_TESTS += %D%/c14-transports.sh
SH_TESTS += %D%/c13-interrupt.sh
