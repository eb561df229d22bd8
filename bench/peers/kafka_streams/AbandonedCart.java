import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.UUID;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The abandoned cart on Kafka Streams: generic Avro, RocksDB stores with changelogs and caches, exactly_once_v2.
 *
 * <p>Kafka Streams has no timers per key, so a second store is ordered by due instant and a punctuator on stream time
 * scans what is due. A timer row is written once per cart and moved on when it comes up, not at every item. Carts are
 * judged by their own due instant, so when the punctuator comes makes no difference to the result.
 */
public final class AbandonedCart {
  private static final long WITHIN = Long.parseLong(env("BENCH_WITHIN"));
  private static final Duration SCAN_EVERY = Duration.ofMinutes(1);

  /** One cart: when its hour ends, and the instant of its timer row. */
  private static final class Cart {
    long due;
    long armed;

    Cart(long due, long armed) {
      this.due = due;
      this.armed = armed;
    }
  }

  private static final class Watch implements Processor<byte[], byte[], byte[], byte[]> {
    private final Map<Integer, GenericDatumReader<GenericRecord>> readers = new HashMap<>();
    private final Map<Integer, GenericRecord> reused = new HashMap<>();
    private final Schema triggerSchema;
    private final byte[] triggerFrame;
    private final GenericDatumWriter<GenericRecord> writer;
    private final Object send;
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> carts;
    private KeyValueStore<byte[], byte[]> timers;

    Watch(Map<String, String> schemas) {
      schemas.forEach(
          (frame, text) -> {
            if (!frame.startsWith("trigger:")) {
              readers.put(
                  ByteBuffer.wrap(HexFormat.of().parseHex(frame), 1, 4).getInt(),
                  new GenericDatumReader<>(new Schema.Parser().parse(text)));
            }
          });
      Map.Entry<String, String> trigger =
          schemas.entrySet().stream().filter(e -> e.getKey().startsWith("trigger:")).findFirst().orElseThrow();
      triggerFrame = HexFormat.of().parseHex(trigger.getKey().substring("trigger:".length()));
      triggerSchema = new Schema.Parser().parse(trigger.getValue());
      writer = new GenericDatumWriter<>(triggerSchema);
      send = new GenericData.EnumSymbol(triggerSchema.getField("action").schema(), "send");
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      carts = context.getStateStore("carts");
      timers = context.getStateStore("timers");
      context.schedule(SCAN_EVERY, PunctuationType.STREAM_TIME, this::scan);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      GenericRecord event = decode(record.value());
      String name = event.get("event").toString();
      boolean item = name.equals("cart.item_added");
      if (!item && !name.equals("order.placed")) {
        return;
      }
      long at = (Long) event.get("event_time");
      byte[] key = record.key();
      Map<String, Cart> held = unpack(carts.get(key));
      boolean changed = false;
      for (Iterator<Map.Entry<String, Cart>> all = held.entrySet().iterator(); all.hasNext(); ) {
        Map.Entry<String, Cart> one = all.next();
        if (one.getValue().due < at) { // the punctuator has not come to it yet
          emit(key, one.getKey(), one.getValue().due);
          all.remove();
          changed = true;
        }
      }
      if (item) {
        String name1 = event.get("cart_id").toString();
        Cart cart = held.get(name1);
        if (cart == null) {
          held.put(name1, new Cart(at + WITHIN, at + WITHIN));
          timers.put(row(at + WITHIN, key, name1), new byte[] {1});
        } else {
          cart.due = at + WITHIN;
        }
        changed = true;
      } else if (!held.isEmpty()) {
        held.clear();
        changed = true;
      }
      if (changed) {
        carts.put(key, pack(held));
      }
    }

    private void scan(long now) {
      List<byte[]> rows = new ArrayList<>();
      do {
        rows.clear();
        try (KeyValueIterator<byte[], byte[]> due = timers.range(row(0), row(now))) {
          while (due.hasNext()) {
            KeyValue<byte[], byte[]> next = due.next();
            rows.add(next.key);
          }
        }
        for (byte[] row : rows) {
          fire(row);
        }
      } while (!rows.isEmpty()); // a row that was moved on may be due as well
    }

    private void fire(byte[] row) {
      timers.delete(row);
      ByteBuffer in = ByteBuffer.wrap(row);
      long armed = in.getLong();
      byte[] key = new byte[in.getShort()];
      in.get(key);
      String name = new String(row, in.position(), in.remaining(), StandardCharsets.UTF_8);
      Map<String, Cart> held = unpack(carts.get(key));
      Cart cart = held.get(name);
      if (cart == null || cart.armed != armed) {
        return;
      }
      if (cart.due > armed) {
        cart.armed = cart.due;
        timers.put(row(cart.due, key, name), new byte[] {1});
      } else {
        held.remove(name);
        emit(key, name, armed);
      }
      carts.put(key, pack(held));
    }

    private void emit(byte[] key, String cart, long due) {
      GenericRecord out = new GenericData.Record(triggerSchema);
      for (Schema.Field field : triggerSchema.getFields()) {
        if (field.hasDefaultValue()) {
          out.put(field.pos(), GenericData.get().getDefaultValue(field));
        }
      }
      String customer = new String(key, StandardCharsets.UTF_8);
      out.put("trigger_id", UUID.nameUUIDFromBytes((customer + cart + due).getBytes(StandardCharsets.UTF_8)).toString());
      out.put("action", send);
      out.put("decision_id", "");
      out.put("customer_id", customer);
      out.put("campaign", "cart_rescue");
      out.put("step", "");
      out.put("channel", "email");
      out.put("template", "cart_rescue");
      out.put("moment", "abandoned_cart");
      out.put("moment_key", cart);
      out.put("opened_at", due);
      out.put("decided_at", due);
      out.put("valid_until", due + 86_400_000L);
      out.put("window_until", due + 60_000L);
      out.put("content", Map.of());
      out.put("definitions_version", "");
      try {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(256);
        bytes.write(triggerFrame);
        encoder = EncoderFactory.get().directBinaryEncoder(bytes, encoder);
        writer.write(out, encoder);
        context.forward(new Record<>(key, bytes.toByteArray(), due));
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    private GenericRecord decode(byte[] value) {
      int id = ByteBuffer.wrap(value, 1, 4).getInt();
      decoder = DecoderFactory.get().binaryDecoder(value, 5, value.length - 5, decoder);
      try {
        GenericRecord record = readers.get(id).read(reused.get(id), decoder);
        reused.put(id, record);
        return record;
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    private static byte[] row(long due) {
      return ByteBuffer.allocate(8).putLong(due).array();
    }

    private static byte[] row(long due, byte[] key, String cart) {
      byte[] name = cart.getBytes(StandardCharsets.UTF_8);
      ByteBuffer out = ByteBuffer.allocate(10 + key.length + name.length);
      return out.putLong(due).putShort((short) key.length).put(key).put(name).array();
    }

    private static byte[] pack(Map<String, Cart> held) {
      if (held.isEmpty()) {
        return null;
      }
      try {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(64);
        DataOutputStream out = new DataOutputStream(bytes);
        for (Map.Entry<String, Cart> one : held.entrySet()) {
          out.writeUTF(one.getKey());
          out.writeLong(one.getValue().due);
          out.writeLong(one.getValue().armed);
        }
        return bytes.toByteArray();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    private static Map<String, Cart> unpack(byte[] value) {
      Map<String, Cart> held = new LinkedHashMap<>(4);
      if (value == null) {
        return held;
      }
      try {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(value));
        while (in.available() > 0) {
          held.put(in.readUTF(), new Cart(in.readLong(), in.readLong()));
        }
        return held;
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }

  public static void main(String[] arguments) throws IOException {
    Map<String, String> schemas = new HashMap<>();
    for (String line : Files.readAllLines(Path.of(env("BENCH_SCHEMA_LINES")))) {
      String[] parts = line.split("\t", 2); // frame in hexadecimal, schema
      schemas.put(parts[0], parts[1]);
    }
    Properties given = new Properties();
    given.put(StreamsConfig.APPLICATION_ID_CONFIG, env("BENCH_GROUP"));
    given.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, env("BENCH_BOOTSTRAP"));
    given.put(StreamsConfig.STATE_DIR_CONFIG, env("BENCH_STATE"));
    given.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    given.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, env("BENCH_COMMIT_MS"));
    given.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, env("BENCH_THREADS"));
    given.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, Long.toString(64L << 20));
    given.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
    given.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArray().getClass());
    given.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArray().getClass());
    given.put("auto.offset.reset", "earliest");
    given.put("max.poll.records", "5000");
    given.put("compression.type", "lz4");
    Topology topology = new Topology();
    topology.addSource("events", new ByteArrayDeserializer(), new ByteArrayDeserializer(), env("BENCH_TOPIC"));
    topology.addProcessor("watch", supplier(schemas), "events");
    topology.addSink("triggers", env("BENCH_OUT"), new ByteArraySerializer(), new ByteArraySerializer(), "watch");
    KafkaStreams streams = new KafkaStreams(topology, given);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          Runtime.getRuntime().halt(1);
          return null;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.start();
  }

  private static ProcessorSupplier<byte[], byte[], byte[], byte[]> supplier(Map<String, String> schemas) {
    return new ProcessorSupplier<>() {
      @Override
      public Processor<byte[], byte[], byte[], byte[]> get() {
        return new Watch(schemas);
      }

      @Override
      public Set<StoreBuilder<?>> stores() {
        return Set.of(store("carts"), store("timers"));
      }
    };
  }

  private static StoreBuilder<KeyValueStore<byte[], byte[]>> store(String name) {
    return Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore(name), Serdes.ByteArray(), Serdes.ByteArray())
        .withCachingEnabled();
  }

  private static String env(String name) {
    String value = System.getenv(name);
    if (value == null) {
      throw new IllegalStateException(name + " is not set");
    }
    return value;
  }

  private AbandonedCart() {}
}
