# Uses the store: by Xen's tools, then by messages of its own on several connections. Paths without a
# slash at the beginning are below the domain's home, where `data` is the domain's own.
id=$(xenstore-read domid)

# Runs a tool of the store, and shows what it says and its exit status.
tool() {
    echo "$ $*"
    "xenstore-$@" 2>&1
    echo "= $?"
}

# The store's number of a kind of message, in `number`.
kind() {
    case $1 in
        control) number=0 ;;
        directory) number=1 ;;
        read) number=2 ;;
        get-perms) number=3 ;;
        begin) number=6 ;;
        end) number=7 ;;
        introduce) number=8 ;;
        release) number=9 ;;
        get-domain-path) number=10 ;;
        write) number=11 ;;
        mkdir) number=12 ;;
        rm) number=13 ;;
        set-perms) number=14 ;;
        is-introduced) number=17 ;;
        resume) number=18 ;;
        set-target) number=19 ;;
        directory-part) number=22 ;;
        *) number=99 ;;
    esac
}

# Adds a number of four bytes to `head`, as printf reads them. No other process: there are many messages.
word() {
    for shift in 0 8 16 24; do
        head="$head\\$(($1 >> shift + 6 & 3))$(($1 >> shift + 3 & 7))$(($1 >> shift & 7))"
    done
}

# Sends a message: connection, kind, transaction, and contents as printf reads them, where a byte that is
# not text is a backslash and three digits. In `answer` is its kind, as a letter (A is 1, and P, 16, an
# error), and its contents, where a bar is a zero.
send() {
    rest=$4
    length=${#4}
    while [ "$rest" != "${rest#*\\}" ]; do
        rest=${rest#*\\}
        length=$((length - 3))
    done
    head=
    kind "$2"
    word "$number"
    word 0
    word "$3"
    word "$length"
    printf "$head$4" >&"$1"
    answer=$(dd bs=4112 count=1 <&"$1" 2> /dev/null | tr '\000-\037' '|A-_' | cut -c 1,17-)
}

# The same, and shows the answer. The first of a directory's parts begins with how often it has changed.
ask() {
    send "$@"
    case $2$answer in
        directory-partV*)
            rest=${answer#V}
            answer="V generation~${rest%%|*} |${rest#*|}"
            ;;
    esac
    echo "$1: $2 ${4:0:60} = $answer"
}

# Begins a transaction on a connection; its number is left in `transaction`.
begin() {
    send "$1" begin 0 '\000'
    answer=${answer#F}
    transaction=${answer%|}
}

echo 'Nodes'
tool write data/a 1
tool read data/a
tool read data/a data/none
tool read data/none
tool exists data/a
tool exists data/none
tool write data/dir/one 1 data/dir/two/three 3
tool list data
tool list data/dir
tool list data/none
tool read -p data/a data/dir/one
tool write data/text 'a "quoted" value, with \ and blanks'
tool read data/text
tool write data/empty ''
tool read data/empty
tool ls data
tool ls -f data
tool ls -p data
tool rm data/dir/one
tool list data/dir
tool rm data/none
tool rm data/none/below
tool rm data/dir
tool exists data/dir
tool write data/deep/er/est 1
tool rm -t data/deep/er/est
tool list data

echo 'Rights'
tool write data/mine/below 1
tool chmod data/mine "n$id" r0
tool chmod data/none "n$id"
tool chmod -r data/mine "b$id" w0
tool ls -p data/mine
tool chmod data/mine n0
tool read data/mine/below
tool write data/new n0
tool read name
tool write name other
tool rm name
tool write none 1
tool write device/none 1
tool write control/shutdown ''
tool read /local/domain/0/name
tool read /local/domain/0/none
tool list /local/domain/0
tool write /local/domain/0/data/a 1
tool write /none/a 1
tool rm /local/domain/0/none
tool list /local/domain
tool list "/local/domain/$id/data"
tool read "/local/domain/$id/data/a"

echo 'Watches'
seen() { until [ "$(wc -l < /tmp/watch)" -ge "$1" ]; do usleep 10000; done; }
# Made here: the shell opens the other program's file only once that runs.
: > /tmp/watch
xenstore-watch -n 5 data/watched > /tmp/watch &
seen 1
xenstore-write data/watched 1
seen 2
xenstore-write data/watched/below 1
seen 3
xenstore-chmod data/watched/below "n$id" r0
seen 4
xenstore-write data/other 1
xenstore-rm data/watched
wait
cat /tmp/watch

exec 3<> /dev/xen/xenbus
exec 4<> /dev/xen/xenbus
echo 'Messages'
ask 3 read 0 'data/a\000'
ask 3 read 0 'data/none\000'
ask 3 read 0 'none/none\000'
ask 3 read 0 '/none\000'
ask 3 read 0 '/local/domain/0/none\000'
ask 3 read 0 '/local/domain/0/name\000'
ask 3 read 0 'data/\000'
ask 3 read 0 'data//a\000'
ask 3 read 0 'data/a b\000'
ask 3 read 0 'data/a.b\000'
ask 3 read 0 "data/$(printf '%03000d' 0)"'\000'
ask 3 read 0 "data/$(printf '%02000d' 0)"'\000'
ask 3 directory 0 'data\000'
ask 3 directory 0 'data/a\000'
ask 3 directory 0 'data/none\000'
ask 3 directory 0 '/local/domain/0\000'
ask 3 directory-part 0 'data\0000\000'
ask 3 directory-part 0 'data\00099\000'
ask 3 directory-part 0 'data\000'
ask 3 get-perms 0 'data\000'
ask 3 get-perms 0 'name\000'
ask 3 get-perms 0 'data/none\000'
ask 3 get-perms 0 '/local/domain/0\000'
ask 3 set-perms 0 'data/a\000'
ask 3 set-perms 0 'data/a\000x1\000'
ask 3 set-perms 0 'data/a\000n0\000'
ask 3 set-perms 0 "name\\000n$id\\000"
ask 3 set-perms 0 "data/a\\000n$id\\000b0\\000"
ask 3 get-perms 0 'data/a\000'
ask 3 write 0 'data/a\000\001\002\003'
ask 3 read 0 'data/a\000'
ask 3 write 0 'data/a'
ask 3 write 0 'name\000a'
ask 3 write 0 'none\000a'
ask 3 write 0 '/none\000a'
ask 3 write 0 "data/long\\000$(printf '%01900d' 0)"
ask 3 write 0 "data/long\\000$(printf '%02100d' 0)"
ask 3 mkdir 0 'data/folder/in/folder\000'
ask 3 mkdir 0 'data/a\000'
ask 3 mkdir 0 'none\000'
ask 3 mkdir 0 'name\000'
ask 3 rm 0 'data/folder\000'
ask 3 rm 0 'data/folder\000'
ask 3 rm 0 'data/folder/in\000'
ask 3 rm 0 'name\000'
ask 3 rm 0 'none\000'
ask 3 rm 0 '/local/domain/0/none\000'
ask 3 rm 0 '/\000'
ask 3 get-domain-path 0 '0\000'
ask 3 get-domain-path 0 '77\000'
ask 3 is-introduced 0 "$id"'\000'
ask 3 introduce 0 '1\0001\0001\000'
ask 3 release 0 '1\000'
ask 3 resume 0 '1\000'
ask 3 set-target 0 '1\0000\000'
ask 3 control 0 'check\000'
ask 3 unknown 0 '\000'

echo 'Transactions: two that touch the same node'
xenstore-write data/t 0 data/u 0
begin 3 && one=$transaction
begin 4 && two=$transaction
ask 3 read "$one" 'data/t\000'
ask 4 read "$two" 'data/t\000'
ask 3 write "$one" 'data/t\0001'
ask 4 write "$two" 'data/t\0002'
ask 3 read "$one" 'data/t\000'
ask 4 read "$two" 'data/t\000'
tool read data/t
ask 3 end "$one" 'T\000'
tool read data/t
ask 4 read "$two" 'data/t\000'
ask 4 end "$two" 'T\000'
tool read data/t

echo 'Two that touch different ones'
begin 3 && one=$transaction
begin 4 && two=$transaction
ask 3 write "$one" 'data/t\0003'
ask 4 write "$two" 'data/u\0004'
ask 3 end "$one" 'T\000'
ask 4 end "$two" 'T\000'
tool read data/t data/u

echo 'Two that make nodes in one place'
begin 3 && one=$transaction
begin 4 && two=$transaction
ask 3 write "$one" 'data/t1\0001'
ask 4 write "$two" 'data/u1\0001'
ask 3 directory "$one" 'data/t1\000'
ask 4 read "$two" 'data/t1\000'
ask 3 end "$one" 'T\000'
ask 4 end "$two" 'T\000'
tool exists data/t1
tool exists data/u1

echo 'One whose node is written, or read alone, beside it'
begin 3 && one=$transaction
ask 3 read "$one" 'data/t\000'
xenstore-write data/t 5
ask 3 end "$one" 'T\000'
begin 3 && one=$transaction
ask 3 read "$one" 'data/t\000'
xenstore-read data/t
ask 3 write "$one" 'data/t\0006'
ask 3 end "$one" 'T\000'
begin 3 && one=$transaction
ask 3 read "$one" 'data/none\000'
xenstore-write data/none 1
ask 3 end "$one" 'T\000'
xenstore-rm data/none

echo 'One that is given up'
begin 3 && one=$transaction
ask 3 write "$one" 'data/t\0007'
ask 3 rm "$one" 'data/u\000'
ask 3 read "$one" 'data/u\000'
ask 3 end "$one" 'F\000'
tool read data/t data/u

echo 'The end'
tool rm data
tool write data/a 1
tool ls data
exec 3>&- 4>&-
