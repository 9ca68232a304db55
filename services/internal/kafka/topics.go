// Package kafka is everything that talks to Kafka: topics, the log that stages read and write, consumer groups.
package kafka

// The topics of the mesh. All have the same number of partitions and are keyed by document key, so that one document's
// records stay in one partition number throughout.
const (
	// TopicAccepted holds every authentic event (hookmesh.event.v1.Event).
	TopicAccepted = "hookmesh.events.accepted"
	// TopicUnique holds the first delivery of each (hookmesh.event.v1.Event).
	TopicUnique = "hookmesh.events.unique"
	// TopicChanged holds what passed the sequencer (hookmesh.event.v1.Change).
	TopicChanged = "hookmesh.documents.changed"
	// TopicDead holds what could not be processed (hookmesh.event.v1.DeadLetter).
	TopicDead = "hookmesh.events.dead"
	// TopicDebts holds what was missed and must be fetched (hookmesh.event.v1.Debt).
	TopicDebts = "hookmesh.debts"
)

// DocumentKey is the key of every record about a document. Neither part is altered, so that ids survive exactly;
// source names hold no slash, so that no two documents share a key.
func DocumentKey(source, documentID string) []byte {
	return []byte(source + "/" + documentID)
}
