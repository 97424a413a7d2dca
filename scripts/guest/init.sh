#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A guest's first process: makes a system around the host's read-only files, runs
# OUT/job.sh, looks for leaks, leaves the status in OUT/status, and ends the guest.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=dumb LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 PYTHONNOUSERSITE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmpfs /run
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t configfs configfs /sys/kernel/config 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
# /tmp may be where the tree is, so it stays as it is
mkdir /run/tmp
export TMPDIR=/run/tmp
ip link set lo up 2>/dev/null

out=$(sed -n 's/.*guest\.out=\([^ ]*\).*/\1/p' /proc/cmdline)
if grep -q 'User Mode Linux' /proc/cpuinfo; then
	end=o
	mount -t hostfs -o "$out" none "$out"
else
	end=b # with -no-reboot that is QEMU's end, with and without ACPI
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,access=any,cache=none \
		out "$out"
fi

# UML has nothing to make random numbers of, and Python's would wait for minutes: these
# are as good as tests need them
python3 -I -S -c '
import fcntl, struct
with open("/dev/random", "wb", 0) as random:
    fcntl.ioctl(random, 0x40085203, struct.pack("ii64s", 512, 64, bytes(range(64))))
'

leaks=/sys/kernel/debug/kmemleak
[ ! -e $leaks ] || { echo scan; echo clear; } >$leaks 2>/dev/null
# a complaint that waits to be told would come too late
echo "GUEST: start $(uname -r) after $(cut -d' ' -f1 /proc/uptime) s"
bash "$out/job.sh" </dev/null
status=$?
if [ -e $leaks ]; then
	# an object counts when it is old enough and two scans found nobody who knows it
	sleep 6
	echo scan >$leaks
	echo scan >$leaks
	cat $leaks
fi
sync
echo "GUEST: status $status after $(cut -d' ' -f1 /proc/uptime) s"
echo "$status" >"$out/status"
sync
echo $end >/proc/sysrq-trigger
sleep 60
