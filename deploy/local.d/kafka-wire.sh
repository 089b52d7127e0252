# Three Kafka requests spoken from bash, so that asking a broker something takes milliseconds and not the
# two seconds that a JVM needs to start. Sourced by deploy/local; needs only bash and coreutils with sed.
#
# Bytes are handled as hex text. A request is: int32 size, int16 api key, int16 api version,
# int32 correlation id, int16 -1 (no client id), body. An answer is: int32 size, int32 correlation id, body.
# Versions are the oldest that Kafka 4 still speaks, or older ones that every 3.x speaks.

wire_int16() { printf '%04x' $(($1 & 0xffff)); }
wire_int32() { printf '%08x' $(($1 & 0xffffffff)); }
wire_string() { wire_int16 "${#1}"; printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }

# wire_ask PORT KEY VERSION BODY_HEX [SECONDS]: prints the answer's body as hex; fails without one in 60 s.
wire_ask() (
    exec 2>/dev/null
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    request="$(wire_int16 "$2")$(wire_int16 "$3")00000007ffff$4"
    request="$(wire_int32 $((${#request} / 2)))$request"
    printf "$(printf '%s' "$request" | sed 's/../\\x&/g')" >&3
    size=$(timeout "${5:-60}" head -c 4 <&3 | od -An -v -tx1 | tr -d ' \n')
    [[ ${#size} -eq 8 ]] || exit 1
    answer=$(timeout "${5:-60}" head -c $((16#$size)) <&3 | od -An -v -tx1 | tr -d ' \n')
    [[ ${#answer} -eq $((2 * 16#$size)) && ${answer:0:8} == 00000007 ]] || exit 1
    printf '%s\n' "${answer:8}"
)

# wire_answers PORT SECONDS: does a broker answer? (ApiVersions, error code 0)
wire_answers() {
    local body
    body=$(wire_ask "$1" 18 0 "" "$2") && [[ ${body:0:4} == 0000 ]]
}

# wire_create_topic PORT NAME PARTITIONS: 0 created, 3 it stands already, 1 refused (reason on stderr).
wire_create_topic() {
    local body error reason length
    # CreateTopics v2: one topic, replication 1, no assignments, no configs, 60 s, for real.
    body="00000001$(wire_string "$2")$(wire_int32 "$3")000100000000000000000000ea6000"
    body=$(wire_ask "$1" 19 2 "$body") || { echo "the broker on port $1 does not answer" >&2; return 1; }
    # throttle int32, count int32, name string, error int16, reason nullable string
    body=${body:$((16 + 4 + 2 * ${#2}))}
    error=$((16#${body:0:4}))
    ((error == 0)) && return 0
    ((error == 36)) && return 3
    length=$((16#${body:4:4}))
    ((length < 0x8000)) && reason=$(printf "$(printf '%s' "${body:8:$((2 * length))}" | sed 's/../\\x&/g')")
    echo "the broker refused topic $2: ${reason:-error code $error}" >&2
    return 1
}

# wire_partitions PORT NAME: prints how many partitions the topic has; fails while any has no leader.
wire_partitions() {
    local body at=0 count i length
    body=$(wire_ask "$1" 3 1 "00000001$(wire_string "$2")") || return 1   # Metadata v1
    count=$((16#${body:0:8})) at=8
    for ((i = 0; i < count; i++)); do             # brokers: id int32, host string, port int32, rack nullable
        length=$((16#${body:$((at + 8)):4})) at=$((at + 12 + 2 * length + 8))
        length=$((16#${body:$at:4})) at=$((at + 4 + (length < 0x8000 ? 2 * length : 0)))
    done
    at=$((at + 8 + 8))                            # controller int32, count of topics int32 (one)
    [[ ${body:$at:4} == 0000 ]] || return 1       # the topic's error
    at=$((at + 4 + 4 + 2 * ${#2} + 2))            # error, name, internal int8
    count=$((16#${body:$at:8})) at=$((at + 8))
    for ((i = 0; i < count; i++)); do             # error int16, index, leader, replicas [int32], isr [int32]
        [[ ${body:$at:4} == 0000 && ${body:$((at + 12)):8} != ffffffff ]] || return 1
        at=$((at + 20))
        at=$((at + 8 + 8 * 16#${body:$at:8}))
        at=$((at + 8 + 8 * 16#${body:$at:8}))
    done
    echo "$count"
}
