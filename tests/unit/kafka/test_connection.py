import pytest
from confluent_kafka import KafkaError

from coinstream.errors import FatalError, TransientError
from coinstream.kafka.connection import Outage, classified
from coinstream.kafka.topics import settings_of
from coinstream.messages import BY_NAME


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.NOT_LEADER_FOR_PARTITION, TransientError),
        (KafkaError._MSG_TIMED_OUT, TransientError),
        (KafkaError.REQUEST_TIMED_OUT, TransientError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, FatalError),
        (KafkaError._AUTHENTICATION, FatalError),
        (KafkaError.POLICY_VIOLATION, FatalError),
    ],
)
def test_error_is_for_waiting_or_for_a_person(code, kind):
    error = classified(KafkaError(code), "publishing")
    assert type(error) is kind
    assert str(error).startswith("publishing: ")


def test_fatal_client_error_stops():
    assert type(classified(KafkaError(KafkaError._FATAL, fatal=True), "publishing")) is FatalError


def test_refused_credentials_are_raised_with_the_address():
    outage = Outage("broker:9092")
    outage.heard(KafkaError(KafkaError._AUTHENTICATION, "SASL failed"))
    with pytest.raises(FatalError, match=r"Kafka at broker:9092 refused the credentials \(SASL failed\)"):
        outage.raise_fatal()


def test_outage_lasts_until_a_sign_of_life():
    outage = Outage("broker:9092")
    outage.heard(KafkaError(KafkaError._TRANSPORT, "connection refused"))
    assert not outage.is_down
    outage.heard(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert outage.is_down
    outage.raise_fatal()
    outage.answered()
    assert not outage.is_down


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, "1"), (2, "1"), (3, "2")])
def test_one_replica_fewer_must_be_in_sync(replicas, in_sync):
    assert settings_of(BY_NAME["market.trades"], replicas)["min.insync.replicas"] == in_sync


def test_compacted_topic_has_no_retention():
    assert settings_of(BY_NAME["market.instruments"], 1) == {"min.insync.replicas": "1", "cleanup.policy": "compact"}
