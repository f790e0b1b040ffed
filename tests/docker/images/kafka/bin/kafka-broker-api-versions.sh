#!/bin/bash
exec /opt/kafka/bin/java-of-kafka org.apache.kafka.tools.BrokerApiVersionsCommand "$@"
