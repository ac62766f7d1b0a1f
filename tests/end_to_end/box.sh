#!/bin/bash
# Boots a real systemd as PID 1 of new namespaces, over a copy-on-write view of / whose changes stay in memory.
#
#   unshare --mount --propagation private bash box.sh PLACE [SOURCE:TARGET]...
#
# PLACE is an empty directory for mounts. Each SOURCE is bind-mounted read-only at TARGET in the box.
# Prints the process id of PID 1, as this namespace sees it, once the box is up; ends it, and removes
# all of it, when standard input ends. Needs root, util-linux, systemd, and a kernel with overlayfs.
set -euo pipefail
place=$1
shift
root=$place/root group= outer=

leave() {
    trap - EXIT
    set +e
    [ -z "$outer" ] || { kill -KILL "$outer" && wait "$outer"; } 2>/dev/null # its PID namespace dies with it
    for _ in {1..50}; do # a control group can be removed once its last process is gone
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -d "$group" ] || break
        sleep 0.02
    done
    umount --lazy "$place"
}
trap leave EXIT
trap 'exit 143' TERM INT HUP

mount -t tmpfs -o mode=755 box "$place"
mkdir "$place"/{upper,work,root,cgroup}
mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" box "$root"
for each in tmp:1777 run:755 dev:755; do
    mount -t tmpfs -o "mode=${each#*:}" box "$root/${each%:*}"
done

# What a container gets of /dev.
mkdir "$root"/dev/{pts,shm}
mount -t tmpfs -o mode=1777 box "$root/dev/shm"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# A machine of its own, on which nothing is enabled.
etc=$root/etc
rm -rf "$etc"/systemd/system/*.{wants,requires}
tr -d - </proc/sys/kernel/random/uuid >"$etc/machine-id"
echo box >"$etc/hostname"
: >"$etc/fstab"
mkdir -p "$root/var/log/journal" "$etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\n' >"$etc/systemd/journald.conf.d/box.conf"
for unit in systemd-{journald-audit.socket,remount-fs.service,networkd.service,timesyncd.service} \
    systemd-{tmpfiles-clean.timer,update-utmp.service} dev-hugepages.mount sys-fs-fuse-connections.mount; do
    ln -sfn /dev/null "$etc/systemd/system/$unit"
done
for bind; do
    target=$root${bind#*:}
    if [ -d "${bind%%:*}" ]; then mkdir -p "$target"; else mkdir -p "${target%/*}" && touch "$target"; fi
    mount --bind "${bind%%:*}" "$target"
    mount -o remount,bind,ro "$target"
done

# Its own part of the tree of control groups.
mount -t cgroup2 cgroup2 "$place/cgroup"
group=$place/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/scheduler-box.$$
mkdir "$group"

cat >"$place/init" <<'INIT'
set -eu
cd "$1"
mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys                # the host's settings stay as they are
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir sys/fs/cgroup/visitors                     # the root of the tree has to be free of processes
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
hostname box
mkdir -p .host
pivot_root . .host
umount --lazy /.host
rmdir /.host
mount --make-rshared /                           # credentials reach a service by way of shared mounts
exec setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog,-mknod,-audit_control,-mac_admin,-wake_alarm \
    env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=journal-or-kmsg --show-status=no
INIT
(
    echo "$BASHPID" >"$group/cgroup.procs"
    exec setpriv --pdeathsig KILL unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child \
        bash "$place/init" "$root"
) </dev/null >"$place/console" 2>&1 &
outer=$!

first= state=
for _ in {1..200}; do
    kill -0 "$outer" 2>/dev/null || break
    read -r first _ <"/proc/$outer/task/$outer/children" || true # the file has no end of line
    [ -z "$first" ] || state=$(nsenter -t "$first" -m -p -C systemctl is-system-running 2>/dev/null || true)
    case $state in
    running | degraded)
        echo "$first"
        cat >/dev/null
        exit 0
        ;;
    esac
    sleep 0.05
done
cat "$place/console" >&2
echo "not booted: ${state:-no answer}" >&2
exit 1
