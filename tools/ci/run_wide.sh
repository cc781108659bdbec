#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run_wide.sh [FOLDER [TEST...]]: runs tests of AVX-512 and AVX512-BF16 on a processor that has neither, for what they
# compute, not for how fast: Bochs is a whole PC with them, at some ten million instructions a second. In it a kernel
# begins, runs each test program, and says what came of it; a minute to begin, and test_device_pairs and
# test_device_onednn, which it runs unless told others, as long again. Root's (chroot), on Debian with its mirror: Bochs
# 3 is Debian 13's, the kernel Debian 12's; nothing is installed, all of it lies in FOLDER (default build-wide).
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(realpath -m "${1:-$here/build-wide}")
shift || true
tests=("${@:-test_device_pairs}")
[ $# -gt 0 ] || tests+=(test_device_onednn)
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format "\$(REPO_URI)" | head -n 1)}
root=$folder/root
mkdir -p "$folder"

# Packages of a suite, unpacked into a folder: fetch SUITE FOLDER [option of apt-get...] PACKAGE...
fetch() {
    local suite=$1 to=$2 apt=$folder/apt-$1
    shift 2
    mkdir -p "$apt"/{lists/partial,archives/partial} "$to"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$apt/sources.list"
    : > "$apt/status"
    printf '%s "%s";\n' Dir::State::lists "$apt/lists" Dir::State::status "$apt/status" Dir::Cache "$apt" \
        Dir::Etc::sourcelist "$apt/sources.list" Dir::Etc::sourceparts - APT::Sandbox::User root > "$apt/apt.conf"
    export APT_CONFIG=$apt/apt.conf
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends --download-only "$@" > /dev/null
    for deb in "$apt"/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$to" --keep-directory-symlink
    done
    unset APT_CONFIG
}

if [ ! -e "$folder/fetched" ]; then
    rm -rf "$root"
    for d in bin lib lib64 sbin; do
        mkdir -p "$root/usr/$d"
        ln -s "usr/$d" "$root/$d"
    done
    fetch trixie "$root" bochs bochs-term bochsbios vgabios isolinux syslinux-common genisoimage busybox-static
    fetch bookworm "$folder/kernel" linux-image-cloud-amd64
    touch "$folder/fetched"
fi

# The emulated processor has bfloat16 and does not say so: its model is one that the kernel begins on.
cat > "$folder/bf16.h" << 'END'
#include <cpuid.h>
static inline int wide_cpuid(unsigned leaf, unsigned part, unsigned *a, unsigned *b, unsigned *c, unsigned *d)
{
    if (leaf != 7 || part != 1) return __get_cpuid_count(leaf, part, a, b, c, d);
    *a = 1u << 5, *b = *c = *d = 0;
    return 1;
}
#define __get_cpuid_count wide_cpuid
END
cmake -S "$here" -B "$folder/build" -DCMAKE_C_FLAGS="-include $folder/bf16.h" > /dev/null
cmake --build "$folder/build" --parallel "$(nproc)" --target "${tests[@]}" > "$folder/build.log" 2>&1 ||
    { tail -20 "$folder/build.log"; exit 1; }

# The first files, and the disk to begin from.
rm -rf "$folder/first" "$root/disk" "$root/run"
mkdir -p "$folder/first"/{bin,proc,sys,dev,tmp,lib64} "$root/disk/isolinux" "$root/run" "$root/tmp"
cp "$root/usr/bin/busybox" "$folder/first/bin/"
for test in "${tests[@]}"; do
    cp "$folder/build/$test" "$folder/first/bin/"
    ldd "$folder/build/$test" | grep -o '/[^ ]*' | sort -u | while read -r library; do
        mkdir -p "$folder/first/$(dirname "$library")"
        cp -Ln "$library" "$folder/first/$library"
    done
done
mkdir -p "$folder/first$here/tests"
cp -r "$here/tests/fixtures" "$folder/first$here/tests/"
cat > "$folder/first/init" << END
#!/bin/busybox sh
busybox mount -t proc none /proc
busybox mount -t devtmpfs none /dev
for test in ${tests[*]}; do
    /bin/\$test 2>&1
    echo "\$test: status \$?"
done
busybox sleep 1
busybox poweroff -f
END
chmod +x "$folder/first/init"
(cd "$folder/first" && find . | "$root/usr/bin/busybox" cpio -o -H newc 2> /dev/null) > "$root/disk/first"
cp "$folder"/kernel/boot/vmlinuz-* "$root/disk/kernel"
cp "$root/usr/lib/ISOLINUX/isolinux.bin" "$root/usr/lib/syslinux/modules/bios/ldlinux.c32" "$root/disk/isolinux/"
cat > "$root/disk/isolinux/isolinux.cfg" << 'END'
DEFAULT tests
PROMPT 0
LABEL tests
 KERNEL /kernel
 APPEND initrd=/first console=ttyS0 quiet nokaslr mitigations=off tsc=reliable rdinit=/init lsm=capability nopcid
END
chroot "$root" /usr/bin/genisoimage -quiet -o /run/disk.iso -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table /disk
cat > "$root/run/bochsrc" << 'END'
config_interface: textconfig
display_library: rfb, options="timeout=0"
cpu: model=corei7_skylake_x, add_features="avx512bf16", count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/vgabios/vgabios.bin
clock: sync=none, time0=utc
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=/run/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=/run/serial
log: /run/log
panic: action=fatal
END
chroot "$root" /usr/bin/bochs-bin -q -f /run/bochsrc < /dev/null > "$folder/bochs.log" 2>&1 || true
tr -d '\r' < "$root/run/serial"
passed=$(tr -d '\r' < "$root/run/serial" | grep -cE '^test_[a-z0-9_]+: status 0$' || true)
[ "$passed" -eq ${#tests[@]} ]
