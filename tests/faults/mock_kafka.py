"""librdkafka's mock cluster in this process: brokers on loopback that answer a request with any error we want.

Its functions are librdkafka's own (rdkafka_mock.h), called by ctypes; weir and the producers of the test reach it by TCP
like any other Kafka."""
import ctypes
import ctypes.util

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 0, 1, 2, 3, 8, 9, 10
JOIN_GROUP, HEARTBEAT, SYNC_GROUP, INIT_PRODUCER_ID = 11, 12, 14, 22

TRANSPORT = -195  # the connection breaks instead of an answer
UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER, REQUEST_TIMED_OUT = 3, 5, 6, 7
COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, NOT_ENOUGH_REPLICAS = 14, 15, 16, 19
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE_IN_PROGRESS, STORAGE_ERROR = 22, 25, 27, 56


class MockKafka:
    def __init__(self, brokers=3):
        self.library = ctypes.CDLL("librdkafka.so.1")
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(self.library, name).restype = ctypes.c_void_p
        self.library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        text = ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(self.library.rd_kafka_conf_new())
        self.host = ctypes.c_void_p(self.library.rd_kafka_new(0, conf, text, 512))
        assert self.host, text.value
        self.cluster = ctypes.c_void_p(self.library.rd_kafka_mock_cluster_new(self.host, brokers))
        self.brokers = self.library.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()

    def topic(self, name, partitions):
        assert self.library.rd_kafka_mock_topic_create(self.cluster, name.encode(), partitions, 1) == 0

    def errors(self, request, *errors):
        """The next answers to this kind of request, of whoever asks."""
        self.library.rd_kafka_mock_push_request_errors_array(self.cluster, ctypes.c_int16(request), ctypes.c_size_t(len(errors)),
                                                             (ctypes.c_int * len(errors))(*errors))

    def topic_error(self, name, error):
        """What metadata says of the topic from now on; 0: that it is there."""
        self.library.rd_kafka_mock_topic_set_error(self.cluster, name.encode(), error)

    def down(self, broker):
        self.library.rd_kafka_mock_broker_set_down(self.cluster, broker)

    def up(self, broker):
        self.library.rd_kafka_mock_broker_set_up(self.cluster, broker)

    def delay(self, broker, milliseconds):
        self.library.rd_kafka_mock_broker_set_rtt(self.cluster, broker, milliseconds)

    def lead(self, topic, partition, broker):
        self.library.rd_kafka_mock_partition_set_leader(self.cluster, topic.encode(), partition, broker)

    def coordinate(self, group, broker):
        self.library.rd_kafka_mock_coordinator_set(self.cluster, b"group", group.encode(), broker)

    def close(self):
        self.library.rd_kafka_mock_cluster_destroy(self.cluster)
        self.library.rd_kafka_destroy(self.host)
