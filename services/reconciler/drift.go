package reconciler

import (
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/reconciler/listing"
)

const (
	missing = reconcilerv1.DriftKind_DRIFT_KIND_MISSING
	extra   = reconcilerv1.DriftKind_DRIFT_KIND_EXTRA
	stale   = reconcilerv1.DriftKind_DRIFT_KIND_STALE
)

// finding is a document that differs.
type finding struct {
	kind                        reconcilerv1.DriftKind
	id, url                     string
	sourceVersion, knownVersion string
}

// compare merges what a source has and what is known, both ordered by id as bytes, and tells every difference. Its memory does not
// grow with them. What is being worked on, or has changed since began, differs for a good reason and counts as pending.
func compare(listed iter.Seq2[listing.Entry, error], known iter.Seq2[*embedderv1.Document, error], began time.Time, r *reconcilerv1.DriftReport, found func(finding) error) error {
	nextListed, stopListed := iter.Pull2(listed)
	defer stopListed()
	nextKnown, stopKnown := iter.Pull2(known)
	defer stopKnown()
	l, errL, moreL := nextListed()
	k, errK, moreK := nextKnown()
	for moreL || moreK {
		if err := errors.Join(errL, errK); err != nil {
			return err
		}
		var f *finding
		switch {
		case !moreK || moreL && l.ID < k.GetDocumentId():
			f = judge(&l, nil, began, r)
			l, errL, moreL = nextListed()
		case !moreL || k.GetDocumentId() < l.ID:
			f = judge(nil, k, began, r)
			last := k.GetDocumentId()
			if k, errK, moreK = nextKnown(); moreK && errK == nil && k.GetDocumentId() <= last {
				return fmt.Errorf("the known documents are not in order: %q after %q", k.GetDocumentId(), last)
			}
		default:
			f = judge(&l, k, began, r)
			l, errL, moreL = nextListed()
			k, errK, moreK = nextKnown()
		}
		if f != nil {
			if err := found(*f); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge compares one document on both sides (nil: it is not on that side) and counts it.
func judge(l *listing.Entry, k *embedderv1.Document, began time.Time, r *reconcilerv1.DriftReport) *finding {
	if l != nil && l.Deleted {
		l = nil
	}
	searchable := k.GetRevision() > 0 && k.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_DELETED
	if l != nil {
		r.Listed++
	}
	if searchable {
		r.Known++
	}
	f := &finding{knownVersion: k.GetVersion()}
	switch {
	case l == nil && !searchable:
		return nil
	case l == nil:
		f.kind, f.id, f.url = extra, k.GetDocumentId(), k.GetUrl()
	case !searchable:
		f.kind, f.id, f.url, f.sourceVersion = missing, l.ID, l.URL, l.Version
	case differs(l.Version, k.GetVersion()):
		f.kind, f.id, f.url, f.sourceVersion = stale, l.ID, l.URL, l.Version
	default:
		return nil
	}
	if k.GetState() == embedderv1.DocumentState_DOCUMENT_STATE_PENDING || k.GetUpdatedAt() != nil && !k.GetUpdatedAt().AsTime().Before(began) {
		r.Pending++
		return nil
	}
	switch f.kind {
	case missing:
		r.Missing++
	case extra:
		r.Extra++
	default:
		r.Stale++
	}
	if len(r.Samples) < maxSamples {
		r.Samples = append(r.Samples, &reconcilerv1.DriftSample{DocumentId: f.id, Kind: f.kind, SourceVersion: f.sourceVersion, KnownVersion: f.knownVersion})
	}
	return f
}

// maxSamples is how many documents a report names.
const maxSamples = 20

// differs compares versions. One that nobody told cannot differ; of numbers, a known one that is higher is newer than the list.
func differs(source, known string) bool {
	if source == "" || known == "" || source == known {
		return false
	}
	s, err1 := strconv.ParseInt(source, 10, 64)
	k, err2 := strconv.ParseInt(known, 10, 64)
	return err1 != nil || err2 != nil || k < s
}

const (
	// fewDeletions are carried out however large their share is.
	fewDeletions = 10
	// maxDeletedShare is the share of the known documents, in percent, above which deletions are not believed at once.
	maxDeletedShare = 20
)

// daring says whether the deletions that a complete sweep found may be carried out. So many at once look like a list that was
// cut, a credential that lost a permission, or a space that was moved: they wait until the next sweep finds about as many, or somebody
// confirms them. An empty list is never believed at once.
func daring(r, before *reconcilerv1.DriftReport, confirmed bool) bool {
	few := r.GetExtra() <= fewDeletions || r.GetExtra()*100 <= r.GetKnown()*maxDeletedShare
	if confirmed || few && r.GetListed() > 0 {
		return true
	}
	return before.GetError() == "" && before.GetWithheld() > 0 && r.GetExtra() >= before.GetWithheld()/2 && r.GetExtra() <= 2*before.GetWithheld()
}

// right is the share of documents that were right.
func right(r *reconcilerv1.DriftReport) float64 {
	all := max(r.GetListed(), r.GetKnown())
	if all == 0 {
		return 1
	}
	return max(0, 1-float64(r.GetMissing()+r.GetExtra()+r.GetStale())/float64(all))
}
